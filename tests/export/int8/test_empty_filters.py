"""Filters that training or pruning emptied: all that is left of them is their bias."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from export.int8 import qdq
from export.int8.qdq import CPU
from tests.export.int8.test_qdq import answers, layer


@pytest.mark.parametrize("left", [0.0, 1e-7, 1e-5])
def test_an_empty_filter_answers_its_bias(left: float, tmp_path: Path) -> None:
    """In steps of the filter's own, next to nothing, a bias of 1 has more of them than int32."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(-1, 1, (8, 16, 3, 3)).astype(np.float32)
    weights[:2] *= left
    biases = np.array([1, -3, *rng.normal(size=6)], np.float32)
    image = rng.uniform(0, 0.5, (1, 16, 8, 8)).astype(np.float32)
    plain, int8 = tmp_path / "plain.onnx", tmp_path / "int8.onnx"
    onnx.save(layer("Conv", weights, image.shape, biases), plain)
    qdq.quantize(plain, int8, {"rectified": (0.0, 0.5)}, CPU, ())

    expected = next(answers(plain, image))
    for answer in answers(int8, image):
        np.testing.assert_allclose(answer[:, :2], expected[:, :2], rtol=1e-3)
        np.testing.assert_allclose(answer, expected, atol=0.1)
