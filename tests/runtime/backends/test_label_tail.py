"""The label tail answers what the graph's own upsampling and argmax would."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from runtime.backends import label_tail
from runtime.backends.label_tail import upsampled_argmax


def onnx_argmax(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The same through ONNX's Resize and ArgMax."""
    shape = [*logits.shape[:2], *size]
    nodes = [
        helper.make_node(
            "Resize", ["logits", "", "", "sizes"], ["full"],
            mode="linear", coordinate_transformation_mode="half_pixel",
        ),
        helper.make_node("ArgMax", ["full"], ["labels"], axis=1, keepdims=0),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "tail",
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits.shape)],
        [helper.make_tensor_value_info("labels", TensorProto.INT64, [shape[0], *size])],
        [helper.make_tensor("sizes", TensorProto.INT64, [4], shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"logits": logits})[0].astype(np.uint8)


def patches(rng: np.random.Generator, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Scores as of a trained network: the same class over areas, and contested lines between."""
    batch, classes, height, width = shape
    areas = rng.normal(size=(batch, classes, -(-height // 12), -(-width // 12)))
    full = areas.repeat(12, axis=2).repeat(12, axis=3)[:, :, :height, :width]
    return (full + 0.1 * rng.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("size", [(96, 128), (72, 160), (90, 121), (24, 32), (13, 17), (300, 33)])
@pytest.mark.parametrize("kind", ["patches", "noise"])
def test_it_answers_what_the_graph_would(kind: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    shape = (2, 19, 24, 32)
    logits = patches(rng, shape) if kind == "patches" else rng.normal(size=shape).astype("f4")
    labels = upsampled_argmax(logits, size)
    assert labels.dtype == np.uint8 and labels.shape == (2, *size)
    assert (labels == onnx_argmax(logits, size)).mean() >= 0.9999


@given(
    classes=st.integers(1, 5),
    source=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    target=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 1000),
)
def test_any_sizes(
    classes: int, source: tuple[int, int], target: tuple[int, int], seed: int
) -> None:
    _check(classes, source, target, seed)


@pytest.mark.parametrize("contested", [0.0, 1.0], ids=["planes", "cells"])
@given(
    classes=st.integers(1, 5),
    source=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    times=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    more=st.sampled_from([(0, 0), (0, 0), (1, 0), (0, 3), (5, 2)]),
    seed=st.integers(0, 1000),
)
def test_cell_by_cell_and_plane_by_plane(
    contested: float,
    classes: int,
    source: tuple[int, int],
    times: tuple[int, int],
    more: tuple[int, int],
    seed: int,
) -> None:
    target = (source[0] * times[0] + more[0], source[1] * times[1] + more[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_tail, "CONTESTED", contested)
        _check(classes, source, target, seed)


def test_scores_that_are_no_numbers_give_labels_all_the_same() -> None:
    for odd in (np.nan, np.inf, -np.inf):
        logits = patches(np.random.default_rng(0), (1, 5, 24, 32))
        logits[0, 1:3, 4:6, 4:6] = odd
        for size in ((96, 128), (100, 130)):
            assert upsampled_argmax(logits, size).max() < 5


def test_the_first_of_equals_wins() -> None:
    assert not upsampled_argmax(np.ones((1, 4, 3, 3), np.float32), (12, 12)).any()


def _check(classes: int, source: tuple[int, int], target: tuple[int, int], seed: int) -> None:
    """Small whole scores: every value is exact in float32 wherever the shares are."""
    rng = np.random.default_rng(seed)
    logits = rng.integers(-9, 9, size=(1, classes, *source)).astype(np.float32)
    full = _bilinear(logits[0].astype(np.float64), target)
    labels = upsampled_argmax(logits, target)[0]
    reached = np.take_along_axis(full, labels[None].astype(np.intp), axis=0)[0]
    np.testing.assert_allclose(reached, full.max(axis=0), atol=1e-4)


def _bilinear(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    for axis, target in ((1, size[0]), (2, size[1])):
        source = scores.shape[axis]
        place = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
        first = np.floor(place).astype(int)
        second = np.minimum(first + 1, source - 1)
        share = (place - first).reshape([-1 if a == axis else 1 for a in range(3)])
        scores = scores.take(first, axis) * (1 - share) + scores.take(second, axis) * share
    return scores


def test_frames_full_of_boundaries_start_no_threads() -> None:
    """Those of a matrix product would spin on the engine's cores; all CPU time is the caller's."""
    code = (
        "import time\n"
        "import numpy as np\n"
        "from runtime.backends.label_tail import upsampled_argmax\n"
        "rough = np.random.default_rng(0).normal(size=(1, 19, 16, 32)).repeat(8, 2).repeat(8, 3)\n"
        "scores = rough.astype(np.float32)\n"
        "time.sleep(0.5)\n"
        "before = time.process_time(), time.thread_time()\n"
        "for _ in range(8): upsampled_argmax(scores, (1024, 2048))\n"
        "print(time.process_time() - before[0], time.thread_time() - before[1])\n"
    )
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    told = subprocess.run([sys.executable, "-c", code], env=free, check=True, capture_output=True)
    whole, own = map(float, told.stdout.split())
    assert whole < 1.1 * own
