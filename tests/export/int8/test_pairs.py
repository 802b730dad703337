"""Where pairs stand when tokens are moved between layers, as transformers move them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from export.int8 import qdq
from export.int8.qdq import CPU
from export.int8.ranges import observe

# A convolution's map becomes tokens; two layers read them, each behind a Reshape of its own, and
# so does the sum in floating point.
TOKENS = """<ir_version: 9, opset_import: ["": 18]>
tokens (float[1,3,8,8] image) => (float[1,64,8] answer) <
    float[8,3,1,1] kernel, float[8] one, float[8] zero, float[8,8] first, float[8,8] second,
    int64[3] flat = {1, 8, 64}, int64[2] rows = {64, 8}, int64[3] whole = {1, 64, 8}
> {
    shown = Relu(image)
    map = Conv(shown, kernel)
    line = Reshape(map, flat)
    turned = Transpose<perm = [0, 2, 1]>(line)
    even = LayerNormalization(turned, one, zero)
    rows_of_first = Reshape(even, rows)
    of_first = MatMul(rows_of_first, first)
    rows_of_second = Reshape(even, rows)
    of_second = MatMul(rows_of_second, second)
    both = Add(of_first, of_second)
    back = Reshape(both, whole)
    answer = Add(back, even)
}"""
# A map and the places of its pixels, side by side, as CoordConv weighs them.
PLACED = """<ir_version: 9, opset_import: ["": 18]>
placed (float[1,3,8,8] image) => (float[1,4,8,8] answer) <
    float[1,1,8,8] places, float[4,4,3,3] kernel
> {
    shown = Relu(image)
    both = Concat<axis = 1>(shown, places)
    answer = Conv<pads = [1, 1, 1, 1]>(both, kernel)
}"""
# The best classes of two heads, counted together: whole numbers, which have no codes.
COUNTED = """<ir_version: 9, opset_import: ["": 18]>
counted (float[1,3,8,8] image) => (int64[1,1,8,8] answer) <float[4,3,1,1] kernel> {
    shown = Relu(image)
    map = Conv(shown, kernel)
    best = ArgMax<axis = 1>(map)
    worst = ArgMin<axis = 1>(map)
    answer = Add(best, worst)
}"""
# Scores, and a mask that is made of others: what must not win is a thousand million below.
MASKED = """<ir_version: 9, opset_import: ["": 18]>
masked (float[1,3,8,8] image) => (float[1,4,8,8] answer) <
    float[4,3,1,1] kernel, float[4,3,1,1] other, float zero = {0.0}, float low = {-1000000000.0}
> {
    shown = Relu(image)
    map = Conv(shown, kernel)
    doubt = Conv(shown, other)
    hidden = Greater(doubt, zero)
    mask = Where(hidden, low, zero)
    answer = Add(map, mask)
}"""
RNG = np.random.default_rng(0)
WEIGHTS = {
    "kernel": RNG.normal(size=(8, 3, 1, 1)),
    "one": np.ones(8),
    "zero": np.zeros(8),
    "first": RNG.normal(size=(8, 8)),
    "second": RNG.normal(size=(8, 8)),
}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """The graph of tokens, its nodes called as what they make."""
    model = onnx.parser.parse_model(TOKENS)
    for name, array in WEIGHTS.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype("f4"), name))
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "plain.onnx")
    return tmp_path / "plain.onnx"


def quantized(plain: Path, kept: tuple[str, ...] = ()) -> ir.Graph:
    """The graph in INT8, saved beside it."""
    image = RNG.uniform(0, 1, (4, 3, 8, 8)).astype(np.float32)
    ranges = {name: found.range("minmax") for name, found in observe(plain, image).items()}
    qdq.quantize(plain, plain.with_name("int8.onnx"), ranges, CPU, kept)
    return ir.load(plain.with_name("int8.onnx")).graph


def sources(graph: ir.Graph) -> list[str]:
    """What is quantized, in graph order."""
    return [str(n.inputs[0].name) for n in graph if n.op_type == "QuantizeLinear" and n.inputs[0]]


def read(graph: ir.Graph, name: str) -> str:
    """The name of what a node reads."""
    [node] = [node for node in graph if node.name == name]
    assert node.inputs[0] is not None
    return str(node.inputs[0].name)


def test_pairs_stand_before_what_moves_the_tokens(plain: Path) -> None:
    graph = quantized(plain)
    assert sources(graph) == ["shown", "even"]
    shared = read(graph, "rows_of_first")
    assert shared == read(graph, "rows_of_second") != "even"
    assert read(graph, "answer") == "back"
    assert "even" in [v.name for n in graph if n.name == "answer" for v in n.inputs if v]


def test_what_is_kept_reads_no_codes(plain: Path) -> None:
    graph = quantized(plain, kept=("of_second",))
    assert sources(graph) == ["shown", "even"]
    assert read(graph, "rows_of_second") == "even" != read(graph, "rows_of_first")
    assert sources(quantized(plain, kept=("map", "of_first", "of_second"))) == []


def test_one_value_in_two_scales_has_two_pairs(plain: Path) -> None:
    ranges = {"shown": (0.0, 1.0), "rows_of_first": (-2.0, 2.0), "rows_of_second": (-4.0, 4.0)}
    qdq.quantize(plain, plain.with_name("int8.onnx"), ranges, CPU, ())
    graph = ir.load(plain.with_name("int8.onnx")).graph
    assert sources(graph) == ["shown", "even", "even"]


def test_the_answer_is_that_of_floating_point(plain: Path) -> None:
    quantized(plain)
    image = RNG.uniform(0, 1, (1, 3, 8, 8)).astype(np.float32)
    exact, int8 = (
        onnxruntime.InferenceSession(path).run(None, {"image": image})[0]
        for path in (plain, plain.with_name("int8.onnx"))
    )
    assert np.abs(exact - int8).mean() < 0.03 * np.abs(exact).mean()


def test_constants_beside_a_map_are_read_as_they_are(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(PLACED)
    arrays = {"places": RNG.uniform(size=(1, 1, 8, 8)), "kernel": RNG.normal(size=(4, 4, 3, 3))}
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype("f4"), name))
    model.graph.node[2].name = "layer"
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "plain.onnx")
    assert set(sources(quantized(tmp_path / "plain.onnx"))) == {"shown", "both"}
    image = RNG.uniform(0, 1, (1, 3, 8, 8)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(tmp_path / name).run(None, {"image": image})[0]
        for name in ("plain.onnx", "int8.onnx")
    )
    np.testing.assert_allclose(before, after, atol=0.02 * np.abs(before).max())


def test_whole_numbers_that_are_added_are_no_layer(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(COUNTED)
    kernel = RNG.normal(size=(4, 3, 1, 1)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "kernel"))
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "plain.onnx")
    assert sources(quantized(tmp_path / "plain.onnx")) == ["shown"]


def test_masks_leave_what_they_do_not_hide(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(MASKED)
    for name in ("kernel", "other"):
        weights = RNG.normal(size=(4, 3, 1, 1)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "plain.onnx")
    quantized(tmp_path / "plain.onnx", kept=("doubt",))
    image = RNG.uniform(0, 1, (1, 3, 8, 8)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(tmp_path / name).run(None, {"image": image})[0]
        for name in ("plain.onnx", "int8.onnx")
    )
    shown = before > -1e6
    assert 0 < shown.mean() < 1 and (after[~shown] < -1e6).all()
    np.testing.assert_allclose(before[shown], after[shown], atol=0.05)
