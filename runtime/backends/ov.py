"""OpenVINO on Intel and AMD CPUs (and ARM): the fastest CPU engine measured."""

from __future__ import annotations

import functools
from collections import deque
from pathlib import Path

import numpy as np
import openvino
from openvino import properties
from openvino.properties import hint

from runtime.backends.base import check_batch
from runtime.backends.label_tail import label_tail
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError, one_line
from runtime.interrupt import Closing

BACKEND = "openvino"
_ARITHMETIC = {openvino.Type.bf16: "bf16", openvino.Type.f16: "fp16"}


class OvEngine(Closing):
    """A bundle in an OpenVINO infer request; see ``runtime.backends.base.Engine``.

    computes: the arithmetic of what is not quantised, as the library chose it: "fp32", "bf16" or
    "fp16".
    """

    def __init__(
        self, model: openvino.CompiledModel, manifest: Manifest, backend: str, in_flight: int
    ) -> None:
        self.manifest, self.backend, self.in_flight = manifest, backend, in_flight
        self.computes = _ARITHMETIC.get(model.get_property(hint.inference_precision()), "fp32")
        _, self._labels = label_tail(manifest)
        # The requests' own input tensors are filled in place: handing over numpy memory of a
        # temporary with shared_memory=True crashes when it is collected too early.
        self._free = [model.create_infer_request() for _ in range(in_flight)]
        self._running: deque[openvino.InferRequest] = deque()

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        assert not self._running, "batches are in flight; take their results first"
        self.submit(batch)
        return self.result()

    def submit(self, batch: np.ndarray) -> None:
        """See ``Engine``."""
        check_batch(self.manifest, batch)
        request = self._free.pop()
        self._running.append(request)
        request.get_input_tensor().data[:] = batch
        request.start_async()

    def result(self) -> np.ndarray:
        """See ``Engine``."""
        request = self._running.popleft()
        try:
            request.wait()
            return self._labels(request.get_output_tensor().data)
        finally:
            self._free.append(request)

    def close(self) -> None:
        """See ``Engine``; waits for what is in flight."""
        for request in self._running:
            request.wait()
        self._running.clear()
        self._free.clear()


@functools.cache
def core() -> openvino.Core:
    """The library's one core of this process.

    Never more than one: each core's CPU plugin puts its thread's signals on a stack of its own and,
    when it goes, puts back the one it found. Cores that do not end in the reverse of the order in
    which they began leave a stack that is gone, and the next Ctrl-C is a segmentation fault.
    """
    return openvino.Core()


def load(
    bundle: Path, manifest: Manifest, threads: int, backend: str, in_flight: int = 1
) -> OvEngine:
    """Compile the bundle's graph for the CPU on ``threads`` threads (0: the library's choice).

    What lies behind its scores is left out: ``runtime.backends.label_tail`` is faster than the
    graph's own end.
    """
    wanted, _ = label_tail(manifest)
    model = compiled(bundle, manifest, wanted, threads, in_flight)
    return OvEngine(model, manifest, backend, in_flight)


def compiled(
    bundle: Path, manifest: Manifest, wanted: str, threads: int, in_flight: int = 1
) -> openvino.CompiledModel:
    """The library's model of the bundle's graph, up to the tensor ``wanted``.

    An FP32 bundle runs in FP32 (the library would take bf16 by itself where the CPU has it);
    other bundles run in the CPU's fastest arithmetic. Several batches in flight share the threads
    without ever waiting for each other, which one batch's threads do at every layer.
    """
    mode = hint.PerformanceMode
    config: dict[str, object] = {hint.performance_mode(): mode.LATENCY}
    if in_flight > 1:
        config = {hint.performance_mode(): mode.THROUGHPUT, properties.num_streams(): in_flight}
    if manifest.precision == "fp32":
        config[hint.inference_precision()] = openvino.Type.f32
    if threads:
        config[properties.inference_num_threads()] = threads
    graph = bundle / manifest.graph(BACKEND)
    try:
        return core().compile_model(part(graph, wanted), "CPU", config)
    except (RuntimeError, ValueError) as error:  # ValueError: its message is not text
        raise HedgeError(f"{graph}: OpenVINO refuses it: {one_line(error)}") from error


def part(graph: Path, wanted: str) -> openvino.Model:
    """An ONNX file's graph up to the tensor ``wanted``."""
    model = core().read_model(graph)
    return openvino.Model([model.output(wanted)], model.get_parameters())
