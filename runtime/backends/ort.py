"""ONNX Runtime on the CPU: the reference engine, and the fallback on every machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from runtime.backends.base import OneAtATime, check_batch
from runtime.backends.label_tail import label_tail
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError, one_line


class OrtEngine(OneAtATime):
    """A bundle in an ONNX Runtime session; see ``runtime.backends.base.Engine``."""

    def __init__(
        self, session: onnxruntime.InferenceSession, manifest: Manifest, backend: str
    ) -> None:
        self.manifest, self.backend = manifest, backend
        self._session: onnxruntime.InferenceSession | None = session
        self._wanted, self._labels = label_tail(manifest)
        self._options = onnxruntime.RunOptions()
        self._options.only_execute_path_to_fetches = True  # not the graph's own end

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        check_batch(self.manifest, batch)
        assert self._session is not None, "infer after close"
        inputs = {self.manifest.input.name: batch}
        return self._labels(self._session.run([self._wanted], inputs, self._options)[0])

    def close(self) -> None:
        """See ``Engine``."""
        self._session = None


def load(
    bundle: Path, manifest: Manifest, threads: int, backend: str, in_flight: int = 1
) -> OrtEngine:
    """Load the bundle's graph on ``threads`` CPU threads (0: the library's choice).

    ``in_flight`` changes nothing: the library gives all its threads to one batch.
    """
    return OrtEngine(session(bundle / manifest.graph(backend), threads), manifest, backend)


def session(graph: Path, threads: int) -> onnxruntime.InferenceSession:
    """The library's session of an ONNX file, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises a dozen types with no common base
        raise HedgeError(f"{graph}: ONNX Runtime refuses it: {one_line(error)}") from error
