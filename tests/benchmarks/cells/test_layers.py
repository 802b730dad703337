"""What engines execute, by type of layer: products and bytes are those of the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.cells.layers import Node, by_kind, kind_of, layers
from benchmarks.cells.worker import Spec
from benchmarks.results import Layers
from runtime.bundle.manifest import Manifest
from tests.equipment.bundles import make_bundle

PIXELS = 24 * 32
PRODUCTS = {
    "depthwise": PIXELS * 3 * 9,
    "convolution k×k": PIXELS * 3 * 16 * 9,
    "convolution 1×1": PIXELS * 16 * 16,
}


@pytest.fixture
def convolutions(tmp_path: Path) -> Path:
    """A bundle whose scores are three convolutions of the frame, one of each type."""
    bundle = make_bundle(tmp_path / "bundle", scores=True)
    kernels = {"deep": (3, 1, 3, 3), "wide": (16, 3, 3, 3), "flat": (16, 16, 1, 1)}
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["frame"], ["bytes"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["bytes"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "deep"], ["a"], group=3, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "wide"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b", "flat"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 24, 32, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 16, 24, 32])],
        [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
            for name, shape in kernels.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, bundle / "model.onnx")
    return bundle


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_librarys_nodes_are_the_graphs_layers(
    backend: str, convolutions: Path, tmp_path: Path
) -> None:
    manifest = Manifest.load(make_bundle(tmp_path / "as-it-was", scores=True))
    spec = Spec("", convolutions, backend, 1, Path(), Path())
    found = {one.kind: one for one in layers(spec, manifest, np.zeros((1, 24, 32, 3), np.uint8))}
    for kind, products in PRODUCTS.items():
        assert (found[kind].nodes, found[kind].multiply_adds) == (1, {"fp32": products}), kind
    # The wide one reads three float planes and writes sixteen, in whole blocks of channels at most.
    least = 4 * (PIXELS * (3 + 16) + 3 * 16 * 9)
    assert least <= found["convolution k×k"].bytes <= 4 * (PIXELS * (16 + 16) + 16 * 16 * 9) + 64
    assert all(one.ms >= 0 and one.bytes > 0 for one in found.values())
    assert sum(one.ms for one in found.values()) > 0


def test_a_library_that_is_not_asked_tells_nothing(convolutions: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(make_bundle(tmp_path / "as-it-was", scores=True))
    spec = Spec("", convolutions, "tensorrt", 1, Path(), Path())
    assert layers(spec, manifest, np.zeros((1, 24, 32, 3), np.uint8)) == []


def test_nodes_of_a_type_are_added_up() -> None:
    nodes = [
        Node("resize", 1.0, {}, 10),
        Node("depthwise", 2.0, {"int8": 5}, 20),
        Node("depthwise", 3.0, {"int8": 1, "fp32": 7}, 30),
    ]
    assert by_kind(nodes) == [
        Layers("depthwise", 2, 5.0, {"int8": 6, "fp32": 7}, 50),
        Layers("resize", 1, 1.0, {}, 10),
    ]


@pytest.mark.parametrize(
    ("name", "weights", "channels", "kind"),
    [
        ("QLinearConv", (8, 1, 3, 3), 8, "depthwise"),
        ("Convolution", (8, 1, 3, 3), 1, "convolution k×k"),
        ("Convolution", (1, 1, 1, 1), 1, "convolution 1×1"),
        ("Deconvolution", (8, 4, 2, 2), 4, "convolution k×k"),
        ("MatMul", (1, 8, 64, 64), 8, "matrix product"),
        ("QLinearConcat", (), 0, "concat, reorder"),
        ("DequantizeLinear", (), 0, "cast, quantise"),
        ("QLinearAdd", (), 0, "eltwise"),
        ("Interpolate", (), 0, "resize"),
        ("ArgMax", (), 0, "other"),
    ],
)
def test_types(name: str, weights: tuple[int, ...], channels: int, kind: str) -> None:
    assert kind_of(name, weights, channels) == kind
