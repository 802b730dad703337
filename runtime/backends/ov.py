"""OpenVINO on Intel and AMD CPUs (and ARM): the fastest CPU engine measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from openvino import properties
from openvino.properties import hint

from runtime.engine import check_batch
from runtime.errors import HedgeError
from runtime.manifest import Manifest


class OvEngine:
    """A bundle in an OpenVINO infer request; see ``runtime.engine.Engine``."""

    def __init__(self, model: openvino.CompiledModel, manifest: Manifest, backend: str) -> None:
        self.manifest, self.backend = manifest, backend
        # The request's own input tensor is filled in place: handing over numpy memory of a
        # temporary with shared_memory=True crashes when it is collected too early.
        self._request: openvino.InferRequest | None = model.create_infer_request()

    def infer(self, batch: np.ndarray) -> np.ndarray:
        check_batch(self.manifest, batch)
        assert self._request is not None, "infer after close"
        self._request.get_input_tensor().data[:] = batch
        self._request.infer()
        return self._request.get_output_tensor().data.copy()

    def close(self) -> None:
        self._request = None

    def __enter__(self) -> OvEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(bundle: Path, manifest: Manifest, threads: int, backend: str) -> OvEngine:
    """Compile the bundle's graph for the CPU on ``threads`` threads (0: the library's choice).

    An FP32 bundle runs in FP32 (the library would take bf16 by itself where the CPU has it);
    other bundles run in the CPU's fastest arithmetic.
    """
    graph = bundle / manifest.graph(backend)
    config: dict[str, object] = {hint.performance_mode(): hint.PerformanceMode.LATENCY}
    if manifest.precision == "fp32":
        config[hint.inference_precision()] = openvino.Type.f32
    if threads:
        config[properties.inference_num_threads()] = threads
    try:
        model = openvino.Core().compile_model(graph, "CPU", config)
    except RuntimeError as error:
        raise HedgeError(f"{graph}: OpenVINO refuses it: {error}") from error
    return OvEngine(model, manifest, backend)
