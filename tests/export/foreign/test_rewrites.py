"""The same arithmetic in another order: what stands where, and that the answers stay."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from export.foreign.opened import Opened

RNG = np.random.default_rng(0)
SIDES = (8, 12)
HEAD = '<ir_version: 9, opset_import: ["": 20]> net (float[1,3,8,12] image) => (float[{}] logits)'

# A map becomes tokens, is activated and becomes a map again, as in SegFormer.
ACTIVATED = """{
    widened = Conv(image, wide_8_3_1_1)
    line = Reshape(widened, to_1_8_96)
    turned = Transpose<perm = [0, 2, 1]>(line)
    active = Gelu(turned)
    doubled = Add(active, active)
    back = Transpose<perm = [0, 2, 1]>(doubled)
    whole = Reshape(back, to_1_8_8_12)
    logits = Conv(whole, narrow_2_8_1_1)
}"""
# Three maps, one as large as it is to be, one the mean of all, weighed side by side, as in ASPP
# and in SegFormer.
SIDE_BY_SIDE = """{
    large = Conv<pads = [1, 1, 1, 1]>(image, large_128_3_3_3)
    small = Conv<strides = [4, 4]>(image, small_128_3_4_4)
    mean = GlobalAveragePool(small)
    same = Resize<mode = "linear">(large, none, none, to_1_128_8_12)
    enlarged = Resize<mode = "linear">(small, none, by_1_1_4_4)
    flat = Resize<mode = "linear">(mean, none, none, to_1_128_8_12)
    whole = Concat<axis = 1>(same, enlarged, flat)
    weighed = Conv(whole, weights_128_384_1_1, bias_128)
    active = Relu(weighed)
    logits = Conv(active, scores_2_128_1_1)
}"""
# A classifier behind an enlargement, as in LR-ASPP.
SCORED = """{
    small = Conv<strides = [4, 4]>(image, small_128_3_4_4)
    enlarged = Resize<mode = "linear">(small, none, none, to_1_128_8_12)
    logits = Conv(enlarged, scores_2_128_1_1, bias_2)
}"""
# Parts of a map, as chunk() and split() are written without PyTorch's optimizer.
PARTS = """{
    map = Conv(image, wide_5_3_1_1)
    pairs = SplitToSequence<axis = 1>(map, two)
    rest = SequenceAt(pairs, two)
    both = SplitToSequence<axis = -3>(map, to_2_3)
    first = SequenceAt(both, zero)
    logits = Add(first, rest)
}"""
# Two linear layers, of which ONNX Runtime knows the second's shapes only once those are slices.
LATER = """{
    map = Conv(image, wide_8_3_1_1)
    line = Reshape(map, to_1_8_96)
    turned = Transpose<perm = [0, 2, 1]>(line)
    product = MatMul(turned, linear_8_8)
    sums = Add(product, bias_8)
    halves = SplitToSequence<axis = 2>(sums, four)
    half = SequenceAt(halves, zero)
    again = MatMul(half, linear_4_8)
    more = Add(again, bias_8)
    back = Transpose<perm = [0, 2, 1]>(more)
    whole = Reshape(back, to_1_8_8_12)
    logits = Conv(whole, narrow_2_8_1_1)
}"""
# Tokens become a map by a linear layer, which the next one weighs.
TOKENS = """{
    small = Conv<strides = [4, 4]>(image, small_16_3_4_4)
    line = Reshape(small, to_1_16_6)
    tokens = Transpose<perm = [0, 2, 1]>(line)
    rows = Reshape(tokens, to_6_16)
    linear = Gemm<transB = 1>(rows, linear_32_16, linear_32)
    whole = Reshape(linear, to_1_6_32)
    planes = Transpose<perm = [0, 2, 1]>(whole)
    map = Reshape(planes, to_1_32_2_3)
    weighed = Conv(map, weights_32_32_1_1, bias_32)
    active = Relu(weighed)
    logits = Conv(active, scores_2_32_1_1)
}"""
# The same, but the map's planes are not the layer's answers: they lie as they were written.
MIXED = TOKENS.replace("planes = Transpose<perm = [0, 2, 1]>(whole)", "planes = Identity(whole)")


def network(text: str, answer: str = "1,2,8,12") -> onnx.ModelProto:
    """The graph of a text, whose parameters are called by their shapes, and sizes by theirs."""
    model = onnx.parser.parse_model(HEAD.format(answer) + text)
    names = dict.fromkeys(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        node.name = node.output[0]
        for index, name in enumerate(node.input):
            node.input[index] = "" if name == "none" else name
    for name in names:
        kind, *sides = name.split("_")
        shape = [int(side) for side in sides]
        if kind == "to":
            array = np.array(shape)
        elif kind == "by":
            array = np.array(shape, np.float32)
        elif shape:
            array = RNG.normal(size=shape).astype(np.float32)
        else:
            continue
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def rewritten(model: onnx.ModelProto) -> ir.Graph:
    """The graph as it is exported, of which the answers are those of before."""
    found = Opened("net", model).static(SIDES, 1)
    image = RNG.normal(size=(1, 3, *SIDES)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"image": image})[0]
        for m in (model, ir.to_proto(found))
    )
    np.testing.assert_allclose(before, after, rtol=1e-3, atol=1e-3 * np.abs(before).max())
    assert np.ptp(before) > 0.1
    return found.graph


def kinds(graph: ir.Graph) -> list[str]:
    return [node.op_type for node in graph]


def test_activations_stand_behind_their_layer() -> None:
    graph = rewritten(network(ACTIVATED))
    conv, gelu = list(graph)[:2]
    assert (conv.op_type, gelu.op_type) == ("Conv", "Gelu")
    assert gelu.inputs[0] is conv.outputs[0]


def test_maps_are_weighed_before_they_are_enlarged() -> None:
    graph = rewritten(network(SIDE_BY_SIDE))
    assert Counter(kinds(graph)) == {
        "Conv": 6, "GlobalAveragePool": 1, "Resize": 1, "Add": 2, "Relu": 1,
    }  # fmt: skip
    [resize] = [node for node in graph if node.op_type == "Resize"]
    assert resize.inputs[0] is not None and resize.inputs[0].producer().op_type == "Conv"
    [relu] = [node for node in graph if node.op_type == "Relu"]
    assert relu.inputs[0] is not None and relu.inputs[0].producer().op_type == "Add"


def test_scores_are_found_before_they_are_enlarged() -> None:
    assert kinds(rewritten(network(SCORED))) == ["Conv", "Conv", "Resize"]


@pytest.mark.parametrize(
    ("then", "instead"),
    [
        ('mode = "linear"', 'mode = "nearest"'),
        ('mode = "linear"', 'mode = "linear", coordinate_transformation_mode = "align_corners"'),
        ("scores_2_128_1_1, bias_2", "scores_2_128_3_3, bias_2"),
    ],
)
def test_other_enlargements_and_layers(then: str, instead: str) -> None:
    """By corners they change places too; nearest ones and layers that see neighbours do not."""
    three = "_3_3" in instead
    text = SCORED.replace(then, instead).replace(
        "logits = Conv(", "logits = Conv<pads = [1, 1, 1, 1]>(" if three else "logits = Conv("
    )
    moved = "corners" in instead
    assert (kinds(rewritten(network(text)))[-1] == "Resize") == moved


def test_linear_layers_weigh_at_once() -> None:
    answer = "1,2,2,3"
    assert kinds(rewritten(network(TOKENS, answer))).count("Conv") == 2
    assert kinds(rewritten(network(MIXED, answer))).count("Conv") == 3
    for bias in ("linear_6_32", "linear_1_32", "linear_1"):  # a row for every token: its place
        placed = TOKENS.replace("linear_32)", f"{bias})")
        assert kinds(rewritten(network(placed, answer))).count("Conv") == 2


@pytest.mark.parametrize(
    ("text", "answer", "second", "shape"),
    [
        (ACTIVATED, "1,2,8,12", "turned", (1, 96, 8)),
        (TOKENS, "1,2,2,3", "map", (1, 32, 2, 3)),
    ],
)
def test_what_is_an_answer_itself_stays(
    text: str, answer: str, second: str, shape: tuple[int, ...]
) -> None:
    model = network(text, answer)
    kind = onnx.TensorProto.FLOAT
    model.graph.output.append(onnx.helper.make_tensor_value_info(second, kind, shape))
    found = ir.to_proto(Opened("net", model).static(SIDES, 1))
    image = RNG.normal(size=(1, 3, *SIDES)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"image": image})
        for m in (model, found)
    )
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(old, new, rtol=1e-3, atol=1e-3)


def test_parts_of_a_sequence_are_slices() -> None:
    assert kinds(rewritten(counted(PARTS))) == ["Conv", "Slice", "Slice", "Add"]


def test_names_of_onnx_runtime_do_not_come_twice() -> None:
    """What it has fused bears names that it gives anew to what can be fused only now."""
    assert kinds(rewritten(counted(LATER))).count("Slice") == 1


def counted(text: str) -> onnx.ModelProto:
    """``network``, with numbers as constants."""
    model = network(text)
    for number, name in ((0, "zero"), (2, "two"), (4, "four")):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(number), name))
    return model
