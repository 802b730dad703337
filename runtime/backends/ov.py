"""OpenVINO on Intel and AMD CPUs (and ARM): the fastest CPU engine measured."""

from __future__ import annotations

from collections import deque
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

    def __init__(
        self, model: openvino.CompiledModel, manifest: Manifest, backend: str, in_flight: int
    ) -> None:
        self.manifest, self.backend, self.in_flight = manifest, backend, in_flight
        _, self._labels = label_tail(manifest)
        # The requests' own input tensors are filled in place: handing over numpy memory of a
        # temporary with shared_memory=True crashes when it is collected too early.
        self._free = [model.create_infer_request() for _ in range(in_flight)]
        self._running: deque[openvino.InferRequest] = deque()

    def infer(self, batch: np.ndarray) -> np.ndarray:
        assert not self._running, "batches are in flight; take their results first"
        self.submit(batch)
        return self.result()

    def submit(self, batch: np.ndarray) -> None:
        check_batch(self.manifest, batch)
        request = self._free.pop()
        self._running.append(request)
        request.get_input_tensor().data[:] = batch
        request.start_async()

    def result(self) -> np.ndarray:
        request = self._running.popleft()
        try:
            request.wait()
            return self._labels(request.get_output_tensor().data)
        finally:
            self._free.append(request)

    def close(self) -> None:
        for request in self._running:
            request.wait()
        self._running.clear()
        self._free.clear()

    def __enter__(self) -> OvEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    bundle: Path, manifest: Manifest, threads: int, backend: str, in_flight: int = 1
) -> OvEngine:
    """Compile the bundle's graph for the CPU on ``threads`` threads (0: the library's choice).

    What lies behind its scores is left out: ``runtime.argmax`` is faster than the graph's own end.
    An FP32 bundle runs in FP32 (the library would take bf16 by itself where the CPU has it);
    other bundles run in the CPU's fastest arithmetic. Several batches in flight share the threads
    without ever waiting for each other, which one batch's threads do at every layer.
    """
    graph = bundle / manifest.graph(backend)
    mode = hint.PerformanceMode
    config: dict[str, object] = {hint.performance_mode(): mode.LATENCY}
    if in_flight > 1:
        config = {hint.performance_mode(): mode.THROUGHPUT, properties.num_streams(): in_flight}
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
    return OvEngine(compiled, manifest, backend, in_flight)
