"""The graph around a network answers what the network does to a frame prepared by its author."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from export import verify
from export.bundle import describe
from export.config import Export
from export.foreign import surround
from tests.export.foreign.networks import CLASSES, SIDES, opened, write_network

HALF = (SIDES[0] // 2, SIDES[1] // 2)
TWICE = (2 * SIDES[0], 2 * SIDES[1])
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
BYTES = {"std": (1 / 255,) * 3}


@pytest.mark.parametrize(
    ("network", "asked", "frame_size", "scores"),
    [
        ({}, IMAGENET, SIDES, HALF),
        ({}, {**IMAGENET, "bgr": True}, SIDES, HALF),
        ({"begins": ["normal"]}, BYTES, SIDES, HALF),
        ({"begins": ["padded"]}, IMAGENET, SIDES, HALF),
        ({"begins": ["unfolded"]}, IMAGENET, SIDES, HALF),
        ({"ends": ["enlarged"]}, IMAGENET, SIDES, HALF),
        ({"ends": ["enlarged", "softmax"]}, IMAGENET, SIDES, HALF),
        ({"ends": ["enlarged", "softmax", "labels"]}, IMAGENET, SIDES, HALF),
        ({"ends": ["enlarged", "labels"]}, IMAGENET, (40, 70), None),
        ({"ends": ["labels"]}, IMAGENET, SIDES, None),
        ({"ends": ["enlarged"]}, IMAGENET, (40, 70), SIDES),
        ({"ends": ["enlarged"]}, IMAGENET, (20, 30), None),
        ({}, IMAGENET, TWICE, HALF),
        ({"begins": ["padded"]}, IMAGENET, TWICE, HALF),
        ({"last": True}, IMAGENET, SIDES, HALF),
        ({"last": True}, {**IMAGENET, "bgr": True}, TWICE, HALF),
        ({"sides": ("h", "w"), "batch": "n"}, {**IMAGENET, "size": SIDES, "batch": 2}, SIDES, HALF),
        ({"sides": (-1, -1), "batch": -1}, {**IMAGENET, "size": SIDES, "batch": 2}, SIDES, HALF),
        ({"classes": 1}, IMAGENET, SIDES, HALF),
        ({"classes": 1, "last": True}, IMAGENET, TWICE, HALF),
        ({"classes": 1, "ends": ["enlarged", "shares"]}, IMAGENET, SIDES, HALF),
        ({"classes": 1, "ends": ["sigmoid", "enlarged"]}, IMAGENET, SIDES, HALF),
        ({"classes": 1, "ends": ["shares"], "last": True}, IMAGENET, SIDES, HALF),
        ({"classes": 1, "ends": ["shares", "bytes"]}, IMAGENET, SIDES, HALF),
        ({"classes": 1, "ends": ["enlarged", "shares", "clipped"]}, IMAGENET, SIDES, SIDES),
        ({"classes": 1, "ends": ["enlarged", "shares", "mask"]}, IMAGENET, (40, 70), None),
        ({"classes": 2, "ends": ["enlarged", "softmax", "second"]}, IMAGENET, SIDES, SIDES),
        ({"ends": ["enlarged", "labels", "floats"]}, IMAGENET, SIDES, HALF),
        ({"ends": ["enlarged", "labels", "floats"]}, IMAGENET, (40, 70), None),
        ({"ends": ["labels", "floats", "repeated"]}, IMAGENET, SIDES, None),
        ({"opset": 13, "ends": ["enlarged"]}, IMAGENET, SIDES, HALF),
        ({"opset": 10, "ends": ["enlarged"]}, IMAGENET, SIDES, SIDES),
    ],
)
def test_labels_are_the_networks_own(
    network: dict, asked: dict, frame_size: tuple[int, int], scores: object, tmp_path: Path
) -> None:
    path = write_network(tmp_path / "net.onnx", **network)
    whole = {"labels", "mask"} & {*network.get("ends", ())}
    count = max(2, network.get("classes", CLASSES))
    classes = tuple("abcd"[:count]) if whole else ()
    config = Export(path, classes=classes, **asked)
    foreign = opened(config)
    foreign.write(SIDES, frame_size, config.batch, tmp_path / "whole.onnx")
    original = foreign.deployed(SIDES, frame_size)
    assert original.score_size == scores and len(foreign.facts.classes) == count
    manifest = describe(foreign.facts, "x", "fp32", config.batch, original)
    session = onnxruntime.InferenceSession(str(tmp_path / "whole.onnx"))
    answers = [(value.name, tuple(value.shape)) for value in session.get_outputs()]
    wanted = [manifest.output, manifest.logits] if scores else [manifest.output]
    assert answers == [(spec.name, spec.shape) for spec in wanted]
    frame = np.random.default_rng(1).integers(256, size=manifest.input.shape, dtype=np.uint8)
    labels = session.run(["labels"], {"frame": frame})[0]
    expected = verify.TorchEngine(original, manifest).infer(frame)
    assert len(np.unique(expected)) > 1
    assert (labels == expected).mean() > 0.999


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_what_constants_can_carry_is_in_the_weights(tmp_path: Path) -> None:
    """A mean is all that is left before the first convolution, its own normalisation included."""
    path = write_network(tmp_path / "net.onnx", begins=["normal"], ends=["enlarged", "softmax"])
    foreign = opened(Export(path, std=(1 / 255,) * 3))
    foreign.write(SIDES, TWICE, 1, tmp_path / "whole.onnx")
    foreign.write(SIDES, SIDES, 1, tmp_path / "same.onnx")
    kinds = operators(tmp_path / "same.onnx")
    assert not kinds.keys() & {"Div", "Mul", "Gather", "Softmax"}
    assert kinds["Sub"] == 1 and kinds["Resize"] == 1 and kinds["Conv"] == 2
    assert operators(tmp_path / "whole.onnx")["Resize"] == 2  # the network's own, and to the frame
    [first] = (n for n in onnx.load(tmp_path / "same.onnx").graph.node if "frame" in n.input)
    assert first.op_type == "Cast", "TensorRT wants nothing else there"


@pytest.mark.parametrize(("std", "told"), [(1.0, True), (1 / 255, False)])
def test_a_normalisation_that_is_made_twice_is_told(
    std: float, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_network(tmp_path / "net.onnx", begins=["normal"])
    opened(Export(path, std=(std,) * 3)).write(SIDES, SIDES, 1, tmp_path / "whole.onnx")
    assert ("normalises by itself" in capsys.readouterr().err) == told


def test_multiply_adds_are_those_of_the_convolutions(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx")
    height, width = HALF
    foreign = opened(Export(path))
    assert foreign.multiply_adds(SIDES, SIDES) == height * width * (6 * 27 + CLASSES * 6)


def test_labels_are_resized_to_the_middle_of_each_pixel() -> None:
    assert surround.nearest(2, 6).tolist() == [0, 0, 0, 1, 1, 1]
    assert surround.nearest(4, 6).tolist() == [0, 1, 1, 2, 3, 3]  # by floor 0, 0, 1, 2, 2, 3
    assert surround.nearest(9, 3).tolist() == [1, 4, 7]


def test_ranges_are_of_one_network_and_one_preparation(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx")
    alike, other = (opened(Export(path)) for _ in range(2))
    changed = opened(Export(path, bgr=True))
    assert alike.fingerprint(SIDES, SIDES) == other.fingerprint(SIDES, SIDES)
    assert alike.fingerprint(SIDES, SIDES) != alike.fingerprint(SIDES, TWICE)
    assert alike.fingerprint(SIDES, SIDES) != changed.fingerprint(SIDES, SIDES)
    model = onnx.load(path)
    [relu] = [node for node in model.graph.node if node.op_type == "Relu"]
    prints = set()
    for slope in (0.1, 0.2):  # no weights tell them apart
        leaky = helper.make_node("LeakyRelu", relu.input, relu.output, relu.name, alpha=slope)
        relu.CopyFrom(leaky)
        onnx.save(model, tmp_path / "leaky.onnx")
        prints.add(opened(Export(tmp_path / "leaky.onnx")).fingerprint(SIDES, SIDES))
    assert len(prints) == 2
