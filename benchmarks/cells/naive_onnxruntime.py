"""ONNX Runtime as one uses it first: normalised floats in, a score for every pixel out, argmax."""

from __future__ import annotations

import numpy as np
import onnxruntime

from benchmarks.cells.engine import EngineCell
from benchmarks.cells.worker import Spec
from runtime.backends import ort
from runtime.backends.base import OneAtATime
from runtime.bundle.manifest import Manifest


class NaiveEngine(OneAtATime):
    """A graph of ``benchmarks.cells.pytorch``, with the host's part in numpy; see ``Engine``."""

    backend = "onnxruntime"

    def __init__(self, session: onnxruntime.InferenceSession, manifest: Manifest) -> None:
        self.manifest, self._session = manifest, session
        self._input = session.get_inputs()[0].name

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        images = (batch[..., ::-1] / 255).astype(np.float32).transpose(0, 3, 1, 2)
        scores = self._session.run(None, {self._input: np.ascontiguousarray(images)})[0]
        return scores.argmax(1).astype(np.uint8)


def load(spec: Spec) -> EngineCell:
    """``spec.weights`` is the graph, ``spec.bundle`` says what goes in and out."""
    (graph,) = spec.weights
    session = ort.session(graph, spec.threads)
    return EngineCell(spec, NaiveEngine(session, Manifest.load(spec.bundle)), "fp32")
