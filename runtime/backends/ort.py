"""ONNX Runtime: on the CPU the reference engine and the fallback, and on what its wheel brings."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from runtime.backends.base import OneAtATime, check_batch
from runtime.backends.label_tail import Scored, label_tail
from runtime.bundle.graph import write_part
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError, one_line

CPU = "CPU"
# As people call them, where the library's own names are shorter.
_PROVIDERS = {"DirectML": "Dml", "TensorRT": "Tensorrt", "TensorRT-RTX": "NvTensorRTRTX"}
_ENDING = "ExecutionProvider"
_ELSEWHERE = {"Azure"}  # a service, not a device
_FORMS = {"TensorRT": "tensorrt", "TensorRT-RTX": "tensorrt_rtx"}  # whose graph they want
_OPTIONS = {"CUDA": {"use_tf32": "0"}}  # FP32 must be FP32
_ARITHMETIC = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int8": "int8",
    "uint8": "int8",
}
_PRODUCTS = {"Conv", "MatMul", "Gemm"}


class OrtEngine(Scored, OneAtATime):
    """A bundle in an ONNX Runtime session; see ``runtime.backends.base.Engine``.

    computes: the arithmetic of what is not quantised; device: what computes.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        graph: Path,
        manifest: Manifest,
        backend: str,
        device: str = CPU,
    ) -> None:
        self.manifest, self.backend, self.device = manifest, backend, device
        self.computes = "fp32" if device == CPU else manifest.precision
        self._session: onnxruntime.InferenceSession | None = session
        self._graph = graph
        self._wanted, self._labels = label_tail(manifest)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        check_batch(self.manifest, batch)
        assert self._session is not None, "infer after close"
        inputs = {self.manifest.input.name: batch}
        return self._labelled(self._session.run([self._wanted], inputs)[0])

    def multiply_adds(self) -> dict[str, int]:
        """Of a batch, by the arithmetic that computes them; empty where the library does not say.

        A run of the same graph under the library's profiler tells which kernels it took.
        """
        assert self._session is not None, "asked after close"
        frames = {self.manifest.input.name: np.zeros(self.manifest.input.shape, np.uint8)}
        found: Counter[str] = Counter()
        for kernel in profiled(self._graph, self._wanted, frames, 0, self.device, prepacked=False):
            found.update(products(kernel["args"]))
        return dict(found)

    def close(self) -> None:
        """See ``Engine``."""
        self._session = None


def devices() -> list[str]:
    """The library's execution providers here, "CPU", "CUDA", "DirectML", "CoreML", "QNN", …"""
    called = {own: name for name, own in _PROVIDERS.items()}
    found = [name.removesuffix(_ENDING) for name in onnxruntime.get_available_providers()]
    return [called.get(name, name) for name in found if name not in _ELSEWHERE]


def load(
    bundle: Path,
    manifest: Manifest,
    threads: int,
    backend: str,
    in_flight: int = 1,
    device: str = "",
) -> OrtEngine:
    """Load the bundle's graph for ``device``, the CPU unless said; what it lacks runs on the CPU.

    threads: of the CPU, 0 leaves them to the library. ``in_flight`` changes nothing: the library
    gives all its threads to one batch.
    """
    graph, (wanted, _) = bundle / manifest.graph(form(device, backend)), label_tail(manifest)
    own = session(graph, threads, device, wanted)
    return OrtEngine(own, graph, manifest, backend, device or CPU)


def form(device: str, backend: str) -> str:
    """The backend whose form of the graph a device takes."""
    return _FORMS.get(device, backend)


def session(
    graph: Path, threads: int, device: str = "", wanted: str = ""
) -> onnxruntime.InferenceSession:
    """The library's session of an ONNX file, as far as the tensor ``wanted`` where one is named."""
    return _started(graph, wanted, _options(threads), device or CPU)


def profiled(
    graph: Path,
    wanted: str,
    frames: dict[str, np.ndarray],
    threads: int,
    device: str,
    runs: int = 1,
    prepacked: bool = True,
) -> list[dict[str, Any]]:
    """The kernels of so many runs, as the library's profiler tells of them.

    prepacked: as in every run; otherwise weights that kernels pack for themselves are among what
    they are told to read.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = _options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.add_session_config_entry("session.disable_prepacking", str(int(not prepacked)))
        session = _started(graph, wanted, options, device or CPU)
        for _ in range(runs):
            session.run([wanted], frames)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    return [event for event in events if event["name"].endswith("_kernel_time")]


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # its errors say the same, and not a graph's names as they are
    return options


@contextmanager
def _part(graph: Path, wanted: str) -> Iterator[Path]:
    """A file with the graph as far as ``wanted``, while it is read.

    The library runs a whole graph whatever it is asked for: its ``only_execute_path_to_fetches``
    does nothing outside of builds for training. Where no file can be written it does so here.
    """
    if not wanted:
        yield graph
        return
    with ExitStack() as stack:
        path = graph
        with suppress(OSError):
            part = Path(stack.enter_context(tempfile.TemporaryDirectory())) / graph.name
            write_part(graph, wanted, part)
            path = part
        yield path


def _started(
    graph: Path, wanted: str, options: onnxruntime.SessionOptions, device: str
) -> onnxruntime.InferenceSession:
    own = _PROVIDERS.get(device, device) + _ENDING
    providers = [(own, _OPTIONS.get(device, {}))]
    if device != CPU:
        providers.append((CPU + _ENDING, {}))
    try:
        with _part(graph, wanted) as part:
            session = onnxruntime.InferenceSession(str(part), options, providers=providers)
    except Exception as error:  # the library raises a dozen types with no common base
        raise HedgeError(f"{graph}: ONNX Runtime refuses it: {one_line(error)}") from error
    if own not in session.get_providers():  # the library would go on without it
        raise HedgeError(
            f"ONNX Runtime has {device}, but it does not start here: what it needs of libraries or "
            "drivers is missing"
        )
    return session


def products(kernel: dict[str, Any]) -> dict[str, int]:
    """Multiply-adds of a kernel that the profiler saw, by their arithmetic."""
    if not any(kind in kernel["op_name"] for kind in _PRODUCTS):
        return {}
    frames, *others = (next(iter(tensor.items())) for tensor in kernel["input_type_shape"])
    ((_, answer),) = kernel["output_type_shape"][0].items()
    kind, weights = next(tensor for tensor in others if len(tensor[1]) > 1)  # behind scales
    depth = prod(weights[1:]) if "Conv" in kernel["op_name"] else frames[1][-1]
    return {_ARITHMETIC.get(kind, kind): prod(answer) * depth}
