"""OpenVINO on Intel and AMD CPUs (and ARM): the fastest CPU engine measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from openvino import properties
from openvino.properties import hint

from runtime.argmax import label_tail
from runtime.engine import check_batch
from runtime.errors import HedgeError
from runtime.manifest import Manifest


class OvEngine:
    """A bundle in an OpenVINO infer request; see ``runtime.engine.Engine``."""

    def __init__(self, model: openvino.CompiledModel, manifest: Manifest, backend: str) -> None:
        self.manifest, self.backend = manifest, backend
        _, self._labels = label_tail(manifest)
        # The request's own input tensor is filled in place: handing over numpy memory of a
        # temporary with shared_memory=True crashes when it is collected too early.
        self._request: openvino.InferRequest | None = model.create_infer_request()

    def infer(self, batch: np.ndarray) -> np.ndarray:
        check_batch(self.manifest, batch)
        assert self._request is not None, "infer after close"
        self._request.get_input_tensor().data[:] = batch
        self._request.infer()
        return self._labels(self._request.get_output_tensor().data)

    def close(self) -> None:
        self._request = None

    def __enter__(self) -> OvEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(bundle: Path, manifest: Manifest, threads: int, backend: str) -> OvEngine:
    """Compile the bundle's graph for the CPU on ``threads`` threads (0: the library's choice).

    What lies behind its scores is left out: ``runtime.argmax`` is faster than the graph's own end.
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
        core = openvino.Core()
        model = core.read_model(graph)
        name, _ = label_tail(manifest)
        wanted = openvino.Model([model.output(name)], model.get_parameters())
        compiled = core.compile_model(wanted, "CPU", config)
    except RuntimeError as error:
        raise HedgeError(f"{graph}: OpenVINO refuses it: {error}") from error
    return OvEngine(compiled, manifest, backend)
