"""Frames of another size than the network's, which OpenVINO's engine is given resized."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from runtime.backends import ov
from runtime.backends.registry import load_engine
from runtime.bundle.manifest import Manifest

FRAME, NETWORK = (36, 60), (24, 88)  # lower, and wider


@pytest.fixture
def resizing(make_bundle: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Makes a bundle whose graph resizes; the arguments go to ``make_bundle``."""
    return lambda **more: make_bundle(
        tmp_path / "bundle", FRAME, batch=2, scores=True, network=NETWORK, **more
    )


def taken(bundle: Path, device: str = ov.CPU) -> tuple[int, ...]:
    """The shape that the library's graph takes."""
    manifest = Manifest.load(bundle)
    assert manifest.logits is not None
    (frame,) = ov.part(bundle, manifest, manifest.logits.name, device).inputs
    return tuple(frame.shape)


def test_labels_are_those_of_the_graph_that_resizes(resizing: Callable[..., Path]) -> None:
    bundle = resizing(precision="int8")
    assert taken(bundle) == (2, *NETWORK, 3)
    frames = np.random.default_rng(0).integers(256, size=(2, *FRAME, 3), dtype=np.uint8)
    answers = {}
    for backend in ("openvino", "onnxruntime"):
        with load_engine(bundle, backend) as engine:
            assert engine.keep_scores()
            answers[backend] = engine.infer(frames), engine.scores
    (labels, scores), (wanted, exact) = answers.values()
    assert np.abs(scores - exact).max() < 2 / 32  # of 256 levels, 32 to a unit: rounding
    assert (labels == wanted).mean() > 0.99
    assert not np.array_equal(wanted[0], wanted[1])


def test_floating_point_and_other_devices_keep_the_whole_graph(
    resizing: Callable[..., Path],
) -> None:
    bundle = resizing(precision="int8")
    assert taken(bundle, "GPU") == (2, *FRAME, 3)
    manifest = Manifest.load(bundle)
    manifest.__class__(**{**vars(manifest), "precision": "fp32"}).save(bundle)
    assert taken(bundle) == (2, *FRAME, 3)


@pytest.mark.parametrize("change", ["mode", "reader"])
def test_what_is_no_plain_resizing_stays(
    resizing: Callable[..., Path], resign: Callable[[Path], None], change: str
) -> None:
    bundle = resizing(precision="int8")
    graph = onnx.load(bundle / "model.onnx")
    resize = next(node for node in graph.graph.node if node.output[0] == "resized")
    if change == "mode":
        next(one for one in resize.attribute if one.name == "mode").s = b"nearest"
    else:  # the frame itself is read beside it
        sums = onnx.helper.make_node("ReduceMax", ["planes"], ["most"], keepdims=1)
        scaled = onnx.helper.make_node("Add", ["means", "most"], ["brighter"])
        product = next(node for node in graph.graph.node if node.op_type == "Mul")
        product.input[0] = "brighter"
        at = list(graph.graph.node).index(product)
        graph.graph.node.insert(at, scaled)
        graph.graph.node.insert(at, sums)
    onnx.save(graph, bundle / "model.onnx")
    resign(bundle)
    assert taken(bundle) == (2, *FRAME, 3)
