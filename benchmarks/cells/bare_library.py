"""The library without us, on the very model that our engine runs: what our code costs.

All ways have the bundle's input lie ready in the library's own memory and are timed in the same
rounds as the engine, except the libraries' own programs:

- loop: our compiled model, nothing else. It ends with scores at 1/4, so it does less than an
  engine: the engine's difference is the copy of the frame, Python around the call, the check of
  the shape, and the label tail (runtime.backends.label_tail), which the model would otherwise need
  inside.
- loop + tail: the same and the label tail on its scores. The answer is the engine's; the difference
  is our engine's code alone, copy included.
- whole graph: the model up to its own labels, as the library computes them: the same answer without
  anything of ours. Where it is slower, that is what the tail gains.
- benchmark_app, trtexec: the library's program on the same model (on random input, scores out, as
  loop) and on the same built engine. Its samples are medians of runs of a second.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.cells.engine import EngineCell
from benchmarks.cells.worker import Served, Spec
from runtime.backends import trt_cache
from runtime.backends.base import OneAtATime
from runtime.backends.label_tail import label_tail
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError

LOOPS = ("loop", "loop + tail", "whole graph")
# The programs, by backend: the way's name, and the program as it is installed.
PROGRAMS = {
    "openvino": ("benchmark_app", "benchmark_app"),
    "tensorrt": ("trtexec", "trtexec"),
    "tensorrt_rtx": ("trtexec", "tensorrt_rtx"),
}
WAYS: dict[str, tuple[str, ...]] = {
    "openvino": (*LOOPS, "benchmark_app"),
    "onnxruntime": LOOPS,
    "tensorrt": ("trtexec",),
    "tensorrt_rtx": ("trtexec",),
}

Run = Callable[[], np.ndarray]
Fill = Callable[[np.ndarray], None]


class BareLoop(OneAtATime):
    """Looks like an engine, so that it is timed like one; what it answers depends on the way.

    The input is filled when another batch comes: in ``settled_ms``, before the clock starts.
    """

    def __init__(self, manifest: Manifest, backend: str, fill: Fill, run: Run) -> None:
        self.manifest, self.backend = manifest, backend
        self._fill, self._run = fill, run
        self._filled: np.ndarray | None = None

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        if batch is not self._filled:
            self._fill(batch)
            self._filled = batch
        return self._run()


def load(spec: Spec) -> Served:
    """The way that ``spec`` names, with the backend's library."""
    if spec.way not in LOOPS:
        return Program(spec)
    return EngineCell(spec, loop(spec))


def loop(spec: Spec) -> BareLoop:
    """One of LOOPS, of a CPU backend."""
    manifest = Manifest.load(spec.bundle)
    wanted, tail = label_tail(manifest)
    if spec.way == "whole graph":
        wanted = manifest.output.name
    make = {"openvino": _openvino, "onnxruntime": _onnxruntime}[spec.backend]
    fill, run = make(spec, manifest, wanted)
    answer = (lambda: tail(run())) if spec.way == "loop + tail" else run
    return BareLoop(manifest, spec.backend, fill, answer)


def _openvino(spec: Spec, manifest: Manifest, wanted: str) -> tuple[Fill, Run]:
    from runtime.backends import ov

    model = ov.compiled(spec.bundle, manifest, wanted, spec.threads, device=spec.device)
    request = model.create_infer_request()

    def fill(batch: np.ndarray) -> None:
        ov.fill(request, batch)

    def run() -> np.ndarray:
        request.start_async()
        request.wait()
        return request.get_output_tensor().data

    return fill, run


def _onnxruntime(spec: Spec, manifest: Manifest, wanted: str) -> tuple[Fill, Run]:
    from runtime.backends import ort

    graph = spec.bundle / manifest.graph(ort.form(spec.device, spec.backend))
    session = ort.session(graph, spec.threads, spec.device, wanted)
    feed = {manifest.input.name: np.zeros(manifest.input.shape, np.uint8)}

    def fill(batch: np.ndarray) -> None:
        feed[manifest.input.name] = batch  # the library reads numpy's memory in place

    return fill, lambda: session.run([wanted], feed)[0]


def program(backend: str) -> str | None:
    """The path of the library's own benchmark, None where it is not installed."""
    _, name = PROGRAMS.get(backend, ("", ""))
    beside = str(Path(sys.executable).parent)  # a venv need not be on the PATH
    return shutil.which(name) or shutil.which(name, path=beside) if name else None


class Program:
    """The library's own benchmark; each measurement is a run of it."""

    def __init__(self, spec: Spec) -> None:
        found = program(spec.backend)
        if found is None:
            raise HedgeError(f"{spec.way}: not installed")
        self._spec, self._program = spec, found
        self._manifest = Manifest.load(spec.bundle)
        prepare = {"openvino": self._benchmark_app}.get(spec.backend, self._trtexec)
        self._command, self._median = prepare()

    def ready(self) -> str:
        """Nothing to tell."""
        return ""

    def warm_up(self) -> None:
        """The program does it itself."""

    def measure(self, number: int) -> float:
        """The median that it prints, in milliseconds a frame."""
        done = subprocess.run(self._command, capture_output=True, text=True, check=False)
        text = done.stdout + done.stderr
        if done.returncode:
            raise HedgeError(f"{self._spec.way} ends with {done.returncode}: {text[-200:]}")
        return self._median(text) / self._manifest.input.shape[0]

    def _benchmark_app(self) -> tuple[list[str], Callable[[str], float]]:
        """On the compiled model of our engine: its graph up to the scores, its settings."""
        import openvino

        from runtime.backends import ov

        wanted, _ = label_tail(self._manifest)
        graph = self._spec.scratch / "graph.xml"
        model = ov.part(self._spec.bundle, self._manifest, wanted)
        openvino.save_model(model, graph, compress_to_fp16=False)
        command = [
            self._program, "-m", str(graph), "-d", self._spec.device or "CPU", "-api", "sync",
            "-nireq", "1", "-t", "1", "-json_stats", "-report_type", "no_counters",
            "-report_folder", str(self._spec.scratch),
        ]  # fmt: skip
        if self._spec.threads:
            command += ["-hint", "none", "-nstreams", "1", "-nthreads", str(self._spec.threads)]
        else:
            command += ["-hint", "latency"]
        if self._manifest.precision == "fp32":
            command += ["-infer_precision", "f32"]
        report = self._spec.scratch / "benchmark_report.json"
        # The program's median, which it calls latency.
        return command, lambda _: float(
            msgspec.json.decode(report.read_bytes())["execution_results"]["latency (ms)"]
        )

    def _trtexec(self) -> tuple[list[str], Callable[[str], float]]:
        """On the engine that our backend built for this GPU, host to host as ours."""
        built = trt_cache.built(self._spec.bundle, self._spec.backend)
        if not built:
            raise HedgeError(f"{self._spec.bundle}: holds no engine of {self._spec.backend}")
        command = [self._program, f"--loadEngine={built[0]}", "--duration=1", "--useCudaGraph"]
        return command, trtexec_median


def trtexec_median(text: str) -> float:
    """Milliseconds from host to host, of what trtexec prints."""
    found = re.search(r"\bLatency: .*?median = ([\d.]+) ms", text)
    if not found:
        raise HedgeError("trtexec prints no latency")
    return float(found[1])
