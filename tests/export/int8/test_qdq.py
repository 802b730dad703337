"""Where the Q/DQ pairs stand, and that both forms of a network carry one set of codes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, helper

from export.fp16 import to_fp16
from export.int8 import qdq
from export.int8.qdq import CPU, TENSORRT
from export.int8.ranges import observe
from runtime.errors import HedgeError

SIZE = (64, 96)
ACTIVATIONS = {"Relu", "Clip", "Sigmoid"}


@pytest.fixture(scope="module")
def graphs(lite_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the FP32 and FP16 graphs of dlse_hed and both INT8 forms of them."""
    folder = tmp_path_factory.mktemp("graphs")
    shutil.copy(lite_graph, folder / "fp32.onnx")
    to_fp16(folder / "fp32.onnx", folder / "fp16.onnx")
    ranges = ranges_of(folder / "fp32.onnx")
    qdq.quantize(folder / "fp32.onnx", folder / "cpu.onnx", ranges, CPU, ())
    qdq.quantize(folder / "fp16.onnx", folder / "tensorrt.onnx", ranges, TENSORRT, ())
    return folder


def ranges_of(graph: Path) -> dict[str, tuple[float, float]]:
    """What the tensors of an FP32 graph take on, on two frames of noise."""
    frames = np.random.default_rng(0).integers(256, size=(2, *SIZE, 3), dtype=np.uint8)
    return {name: found.range("minmax") for name, found in observe(graph, frames).items()}


@pytest.fixture(params=["cpu", "tensorrt"])
def quantized(request: pytest.FixtureRequest, graphs: Path) -> ir.Model:
    """Each of the INT8 forms."""
    return ir.load(graphs / f"{request.param}.onnx")


def pairs(model: ir.Model) -> Iterator[tuple[ir.Node, np.ndarray, np.ndarray]]:
    """Every QuantizeLinear with its scale and zero point."""
    for node in model.graph:
        if node.op_type == "QuantizeLinear":
            scale, zero = (constant(value) for value in node.inputs[1:])
            yield node, scale, zero


def constant(value: ir.Value | None) -> np.ndarray:
    assert value is not None and value.const_value is not None
    return value.const_value.numpy()


def source(value: ir.Value | None) -> str:
    """The operator that makes a value, "" for a graph input or constant."""
    producer = None if value is None else value.producer()
    return "" if producer is None else producer.op_type


def test_activations_are_symmetric(graphs: Path) -> None:
    for _, scale, zero in pairs(ir.load(graphs / "tensorrt.onnx")):
        assert (zero.dtype, zero.item()) == (np.int8, 0)
        assert scale.dtype == np.float16 and scale.shape == ()
    for node, _, zero in pairs(ir.load(graphs / "cpu.onnx")):
        if node.inputs[0].name.startswith("frame"):
            continue  # test_frame_bytes has them
        rectified = source(node.inputs[0]) == "Relu"
        assert zero.dtype == np.uint8 and zero.item() in ((0,) if rectified else (0, 128))


def test_weights_have_a_scale_per_channel(quantized: ir.Model) -> None:
    on_cpu = any(zero.dtype == np.uint8 for _, _, zero in pairs(quantized))
    convolutions = [node for node in quantized.graph if node.op_type == "Conv"]
    seen = 0
    for node in convolutions:
        weights = node.inputs[1]
        if source(weights) != "DequantizeLinear":
            continue
        stored, scale, zero = (constant(v) for v in weights.producer().inputs)
        assert stored.dtype == np.int8 and not zero.any()
        largest = np.abs(stored.astype(int)).max()
        assert scale.shape == (stored.shape[0],)
        if on_cpu and node.attributes["group"].as_int() == 1:
            assert 63 <= largest <= 127
        else:
            assert largest == 127
        seen += 1
    assert seen > len(convolutions) / 2


def test_two_products_fit_into_16_bits_on_the_cpu(graphs: Path) -> None:
    graph = ir.load(graphs / "cpu.onnx").graph
    seen = 0
    for node in (n for n in graph if n.op_type == "Conv" and n.attributes["group"].as_int() == 1):
        if source(node.inputs[1]) == "DequantizeLinear":
            stored = constant(node.inputs[1].producer().inputs[0]).astype(int)
            codes = np.sort(stored.reshape(len(stored), -1), axis=1)
            largest = np.maximum(codes[:, -2:].sum(axis=1), -codes[:, :2].sum(axis=1)).max()
            assert 255 * largest <= np.iinfo(np.int16).max, node.name
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("kernel", [1, 3])
def test_large_codes_do_not_saturate(kernel: int, tmp_path: Path) -> None:
    """Full int8 weights come out 14 % too small on a CPU without VNNI, in both engines alike."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1, (64, 64, kernel, kernel)).astype(np.float32)
    image = rng.uniform(0.5, 1, (1, 64, 16, 16)).astype(np.float32)
    plain, int8 = tmp_path / "plain.onnx", tmp_path / "int8.onnx"
    onnx.save(layer("Conv", weights, image.shape), plain)
    qdq.quantize(plain, int8, {"rectified": (0.0, 1.0)}, CPU, ())

    expected = torch.conv2d(torch.from_numpy(image), torch.from_numpy(weights)).numpy()
    for answer in answers(int8, image):
        np.testing.assert_allclose(answer, expected, rtol=0.02)


@pytest.mark.parametrize("groups", [1, 2])
def test_filters_of_transposed_convolutions_lie_on_the_second_axis(
    groups: int, tmp_path: Path
) -> None:
    """Each has its own scale; in groups, where an axis does not tell them, nothing is INT8."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1, (32, 8, 2, 2)) * 2.0 ** -np.arange(8).reshape(1, 8, 1, 1)
    weights = weights.astype(np.float32)
    image = rng.uniform(0.5, 1, (1, 32, 16, 16)).astype(np.float32)
    plain, int8 = tmp_path / "plain.onnx", tmp_path / "int8.onnx"
    onnx.save(layer("ConvTranspose", weights, image.shape, group=groups), plain)
    qdq.quantize(plain, int8, {"rectified": (0.0, 1.0)}, CPU, ())

    expected = torch.conv_transpose2d(
        torch.from_numpy(image), torch.from_numpy(weights), groups=groups
    ).numpy()
    for answer in answers(int8, image):
        np.testing.assert_allclose(answer, expected, rtol=0.02)
    kinds = {node.op_type for node in onnx.load(int8).graph.node}
    assert ("DequantizeLinear" in kinds) == (groups == 1)


@pytest.mark.parametrize("tokens", [5, 1])
@pytest.mark.parametrize("gemm", [None, {}, {"transB": 1}, {"alpha": 0.5}, {"transA": 1}])
def test_each_output_of_a_product_with_weights_has_its_own_scale(
    gemm: dict[str, float] | None, tokens: int, tmp_path: Path
) -> None:
    """As linear layers have them; a product that scales or turns its input stays as it is, and so
    does one of a single vector."""
    operator, attributes = ("MatMul", {}) if gemm is None else ("Gemm", gemm)
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1, (32, 8)) * 2.0 ** -np.arange(8)
    weights = weights.astype(np.float32)
    shape = (tokens, 32) if operator == "Gemm" else (1, tokens, 32)
    image = rng.uniform(0.5, 1, shape).astype(np.float32)
    biases = np.arange(8).astype(np.float32) if operator == "Gemm" else None
    expected = image @ weights * attributes.get("alpha", 1) + (0 if biases is None else biases)
    if attributes.get("transA"):
        image = np.ascontiguousarray(image.T)
    stored = np.ascontiguousarray(weights.T) if attributes.get("transB") else weights
    plain, int8 = tmp_path / "plain.onnx", tmp_path / "int8.onnx"
    onnx.save(layer(operator, stored, image.shape, biases, **attributes), plain)
    qdq.quantize(plain, int8, {"rectified": (0.0, 1.0)}, CPU, ())

    for answer in answers(int8, image):
        np.testing.assert_allclose(answer, expected, rtol=0.02)
    kinds = {node.op_type for node in onnx.load(int8).graph.node}
    changed = tokens > 1 and not attributes.keys() & {"alpha", "transA"}
    assert ("DequantizeLinear" in kinds) == changed


def answers(graph: Path, image: np.ndarray) -> Iterator[np.ndarray]:
    """What both engines of CPUs say."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    yield session.run(None, {"image": image})[0]
    compiled = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    yield compiled(image)[0]


def layer(
    operator: str,
    weights: np.ndarray,
    shape: tuple[int, ...],
    biases: np.ndarray | None = None,
    **attributes: float,
) -> onnx.ModelProto:
    """Float image → its rectified values, weighed."""
    given = {"weights": weights} | ({} if biases is None else {"biases": biases})
    nodes = [
        helper.make_node("Relu", ["image"], ["rectified"], name="relu"),
        helper.make_node(operator, ["rectified", *given], ["sums"], name="layer", **attributes),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    sums = helper.make_tensor_value_info("sums", TensorProto.FLOAT, None)
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in given.items()]
    graph = helper.make_graph(nodes, "layer", [image], [sums], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def test_nothing_stands_between_convolution_and_activation(quantized: ir.Model) -> None:
    for node in quantized.graph:
        if node.op_type == "Conv":
            followers = {user.node.op_type for user in node.outputs[0].uses()}
            assert not (followers & ACTIVATIONS and "QuantizeLinear" in followers), node.name


def test_convolutions_and_both_sides_of_additions_read_integers(
    quantized: ir.Model, graphs: Path
) -> None:
    names = set(qdq.layers(ir.load(graphs / "fp32.onnx")))
    for node in quantized.graph:
        if node.name in names and node.op_type == "Conv":
            feeds = [source(value) == "DequantizeLinear" for value in node.inputs[:2]]
            # Depthwise ones read the pair that their neighbours need, with weights as they were.
            assert feeds[0] == feeds[1] or node.attributes["group"].as_int() > 1, node.name
        if node.name in names and node.op_type == "Add":
            assert {source(value) for value in node.inputs} == {"DequantizeLinear"}, node.name


def test_what_is_concatenated_shares_a_scale(quantized: ir.Model) -> None:
    concatenations = [node for node in quantized.graph if node.op_type == "Concat"]
    shared = 0
    for node in concatenations:
        scales = {
            constant(value.producer().inputs[1]).item()
            for value in node.inputs
            if source(value) == "DequantizeLinear"
        }
        assert len(scales) <= 1, node.name
        shared += len(scales)
    assert shared >= 3  # ASPP, and both of the decoder's


def test_pooling_and_resizing_hand_scales_on(quantized: ir.Model) -> None:
    checked = 0
    for node, scale, _ in pairs(quantized):
        producer = node.inputs[0].producer()
        if producer.op_type in {"MaxPool", "Resize"}:
            before = producer.inputs[0].producer()
            assert before.op_type == "DequantizeLinear", producer.name
            assert constant(before.inputs[1]).item() == scale.item()
            checked += 1
    assert checked


def test_both_forms_carry_the_same_values(graphs: Path) -> None:
    forms = [ir.load(graphs / f"{name}.onnx") for name in ("cpu", "tensorrt")]
    weights = [
        {node.name: [constant(value).astype(np.float64) for value in node.inputs[:2]]
         for node in form.graph if node.name.endswith(".weight_dequantize")} for form in forms
    ]  # fmt: skip
    assert weights[1] and weights[1].keys() < weights[0].keys()  # without the depthwise ones
    for name, (codes, steps) in weights[1].items():
        if codes.shape[1] == 3:
            continue  # rounded together: test_frame_bytes has them
        on_cpu, longer = weights[0][name]
        columns = (-1, 1, 1, 1)
        off = codes * steps.reshape(columns) - on_cpu * longer.reshape(columns)
        # Half a step of each; FP16 weights were rounded before.
        assert (np.abs(off) <= 1.01 * longer.reshape(columns)).all(), name
    largest = [{n.inputs[0].name: s.item() * (127 if z else 255 if z.dtype == np.uint8 else 127)
                for n, s, z in pairs(form) if not n.inputs[0].name.startswith("frame")}
               for form in forms]  # fmt: skip
    for name in largest[1]:
        step = 255 * 2**-24  # of the smallest scales in FP16
        assert largest[0][name] == pytest.approx(largest[1][name], rel=2e-3, abs=step), name


def test_biases_are_integers_where_the_cpu_wants_them(graphs: Path) -> None:
    model = ir.load(graphs / "cpu.onnx")
    steps = 0
    for node in model.graph:
        if node.op_type != "Conv" or source(node.inputs[1]) != "DequantizeLinear":
            continue
        if len(node.inputs) < 3:
            continue
        stored, scale = (constant(value) for value in node.inputs[2].producer().inputs)
        weights = constant(node.inputs[1].producer().inputs[1])
        activation = constant(node.inputs[0].producer().inputs[1])
        assert stored.dtype == np.int32
        np.testing.assert_allclose(scale, weights * activation, rtol=1e-6)
        steps += 1
    assert steps


def test_kept_layers_read_what_they_read_before(graphs: Path, tmp_path: Path) -> None:
    plain = ir.load(graphs / "fp32.onnx")
    kept = [name for name in qdq.layers(plain) if "conv" in name][::3]
    ranges = ranges_of(graphs / "fp32.onnx")
    qdq.quantize(graphs / "fp32.onnx", tmp_path / "kept.onnx", ranges, CPU, kept)
    nodes = {node.name: node for node in ir.load(tmp_path / "kept.onnx").graph}
    originals = {node.name: node for node in plain.graph}
    for name in kept:
        assert [v.name for v in nodes[name].inputs] == [v.name for v in originals[name].inputs]


def test_with_every_layer_kept_the_graph_is_as_it_was(graphs: Path, tmp_path: Path) -> None:
    plain = ir.load(graphs / "fp32.onnx")
    target = tmp_path / "all.onnx"
    qdq.quantize(graphs / "fp32.onnx", target, {}, CPU, qdq.layers(plain))
    operators = [node.op_type for node in ir.load(target).graph]
    assert operators == [node.op_type for node in plain.graph]


def test_ranges_of_another_model_are_named(graphs: Path, tmp_path: Path) -> None:
    ranges = ranges_of(graphs / "fp32.onnx")
    missing = min(ranges)
    del ranges[missing]
    with pytest.raises(HedgeError, match=f"no range for tensor {missing!r}"):
        qdq.quantize(graphs / "fp32.onnx", tmp_path / "x.onnx", ranges, CPU, ())
    assert not (tmp_path / "x.onnx").exists()
