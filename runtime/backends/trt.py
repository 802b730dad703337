"""TensorRT 10 and 11 and TensorRT-RTX: build an engine from the bundle's graph, keep it, run it.

All three have one API under two names. Building (``runtime.backends.trt_builder``) needs no GPU
with TensorRT-RTX; running needs one, and pycuda.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from runtime import cli, files, machine
from runtime.backends import trt_builder, trt_cache
from runtime.backends.base import LabelsOnly, check_batch
from runtime.backends.registry import BACKENDS
from runtime.backends.trt_builder import PORTABLE
from runtime.backends.trt_cache import BuildOptions, Sidecar
from runtime.backends.trt_slot import Slot, primary_context
from runtime.bundle.manifest import ENGINES, Manifest
from runtime.errors import HedgeError
from runtime.interrupt import Closing

CUDA = "CUDA"


def build(
    bundle: Path,
    library: str,
    targets: Sequence[str] = (),
    options: BuildOptions | None = None,
) -> list[Path]:
    """Build the bundle's engines into its ``engines/``, one for each target, and name them.

    library: "tensorrt" or "tensorrt_rtx"; targets: compute capabilities as "sm89", for which
    TensorRT-RTX builds on any machine; without them, for this machine. Raises HedgeError where
    the library is missing, a target unknown, or the graph refused.
    """
    manifest = Manifest.load(bundle)
    devices = list(targets) or [_devices(library)[0]]
    for device in devices:
        trt_builder.capability(library, device)
    options = options or BuildOptions()
    own = manifest.input.shape[0]
    if options.max_batch is not None and options.max_batch < own:
        raise HedgeError(f"--max-batch {options.max_batch}: {bundle} runs {own} frames at once")
    return [_built(bundle, manifest, library, device, options) for device in devices]


def devices() -> list[str]:
    """The GPU, by the name that other libraries call it, where there is one."""
    return [CUDA] if machine.gpus() else []


def load(
    bundle: Path,
    manifest: Manifest,
    threads: int,
    backend: str,
    in_flight: int = 1,
    device: str = "",
) -> TrtEngine:
    """Load the engine that fits this GPU, building it where there is none yet.

    backend: the library; threads, device: of no meaning here; in_flight: 2 copies one batch while
    another is computed. Raises HedgeError where the library, pycuda or the GPU is missing, or where
    the engine is not the one that its sidecar describes.
    """
    trt_builder.load(backend)
    if not machine.gpus():
        raise HedgeError(
            f"{backend}: no NVIDIA GPU, or no driver for it (nvidia-smi shows both); "
            "CPU engines are --backend openvino and onnxruntime"
        )
    if not find_spec("pycuda"):
        raise HedgeError(
            f"pycuda is not installed: pip install 'hedge-seg[{BACKENDS[backend].extra}]'"
        )
    graph = manifest.files[manifest.graph(backend)]
    for device in _devices(backend):
        path = _place(bundle, backend, device)
        if path.exists() and (plan := _checked(path, graph, backend, device)) is not None:
            return TrtEngine(plan, manifest, backend, in_flight)
    path = _built(bundle, manifest, backend, _devices(backend)[0], BuildOptions())
    return TrtEngine(path.read_bytes(), manifest, backend, in_flight)


class TrtEngine(LabelsOnly, Closing):
    """A bundle on an NVIDIA GPU; see ``runtime.backends.base.Engine``.

    With ``in_flight`` 2, ``submit`` and ``result`` copy one batch while another is computed. Each
    call makes the GPU's primary context current and leaves none behind: any thread may call, one
    at a time.
    """

    def __init__(self, plan: bytes, manifest: Manifest, backend: str, in_flight: int = 1) -> None:
        self.manifest, self.backend, self.in_flight = manifest, backend, in_flight
        self._waiting: deque[Slot] = deque()
        self._slots: list[Slot] = []
        self._runtime: Any = None
        self._engine: Any = None
        self.device = f"{CUDA} engine {files.sha256_of(plan)[:16]}"
        self._context = primary_context()
        self._open = True
        with self._current():
            try:
                self._prepare(plan)
            except BaseException as error:
                traceback.clear_frames(error.__traceback__)  # they hold what is to be freed here
                self.close()
                raise

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        if self._waiting:
            raise RuntimeError("batches are in flight; take their results first")
        self.submit(batch)
        return self.result()

    def submit(self, batch: np.ndarray) -> None:
        """Start on ``batch`` and return at once; RuntimeError with ``in_flight`` started."""
        check_batch(self.manifest, batch)
        assert self._open, "submit after close"
        if len(self._waiting) == self.in_flight:
            raise RuntimeError(f"{self.in_flight} batches are in flight; take a result first")
        slot = next(slot for slot in self._slots if slot not in self._waiting)
        with self._current():
            slot.start(batch)
        self._waiting.append(slot)

    def result(self) -> np.ndarray:
        """Wait for the oldest batch in flight: its (N, H, W) uint8 labels."""
        assert self._open, "result after close"
        slot = self._waiting.popleft()
        with self._current():
            return slot.finish()

    def without_graphs(self) -> None:
        """Enqueue each batch piece by piece from now on: what CUDA graphs gain is measured so."""
        assert not self._waiting, "a batch is in flight; take its result first"
        with self._current():
            for slot in self._slots:
                slot.without_graph()

    def multiply_adds(self) -> dict[str, int]:
        """Of a batch, by the arithmetic that computes them; empty where the engine does not say."""
        trt = trt_builder.load(self.backend)
        with self._current():
            inspector = self._engine.create_engine_inspector()
            # Without it, what depends on the number of frames is -1 in an engine for any number.
            inspector.execution_context = self._slots[0].context
            text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        return trt_builder.products(text)

    def close(self) -> None:
        """See ``Engine``."""
        if not self._open:
            return
        self._open = False
        self._waiting.clear()
        with self._current(), ExitStack() as stack:
            stack.callback(self._forget)  # last: the engine outlives its execution contexts
            for slot in self._slots:
                stack.callback(slot.free)

    def _forget(self) -> None:
        self._slots = []
        self._engine = None
        self._runtime = None

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def _prepare(self, plan: bytes) -> None:
        trt = trt_builder.load(self.backend)
        self._runtime = trt_builder.started(self.backend, "Runtime")
        self._runtime.engine_host_code_allowed = False  # a plan is data, and stays data
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise HedgeError(
                f"{self.backend} does not load its engine: {trt_builder.reasons(self.backend)}"
            )
        for spec in (self.manifest.input, self.manifest.output):
            shape = tuple(self._engine.get_tensor_shape(spec.name))
            shape = (spec.shape[0], *shape[1:]) if shape[:1] == (-1,) else shape  # takes any number
            if shape != spec.shape or self._engine.get_tensor_dtype(spec.name) != trt.uint8:
                raise HedgeError(
                    f"{self.backend}: the engine's {spec.name} is {shape}, the manifest says uint8 "
                    f"{spec.shape}; delete {ENGINES}/ in the bundle"
                )
        for _ in range(self.in_flight):
            # In the list before it takes anything: ``close`` finds it.
            self._slots.append(Slot(self.backend))
            self._slots[-1].prepare(self._engine, self.manifest)
        self._context.synchronize()  # weights are copied on a stream that no slot waits for


def _built(
    bundle: Path, manifest: Manifest, library: str, device: str, options: BuildOptions
) -> Path:
    name = manifest.graph(library)
    path = _place(bundle, library, device)
    with cli.err.status(f"building {path.name} (minutes for tensorrt, seconds for tensorrt_rtx)"):
        timing = path.with_suffix(".timing")
        plan = trt_builder.plan(bundle / name, library, device, options, timing)
    sidecar = Sidecar(
        files.sha256_of(plan),
        manifest.files[name],
        library,
        trt_builder.version(library),
        device,
        options,
        tf32=False,
    )
    trt_cache.save(path, plan, sidecar)
    return path


def _checked(path: Path, graph: str, library: str, device: str) -> bytes | None:
    """The engine's bytes where they are what the sidecar says; None where it must be built anew.

    That is where the graph is newer, or where TensorRT was free to compute FP32 in TF32.
    HedgeError before any parser sees a byte of a damaged engine, or of one built elsewhere.
    """
    sidecar = Sidecar.load(path)
    expected = (library, trt_builder.version(library), device)
    found = (sidecar.library, sidecar.version, sidecar.device)
    if found != expected:
        raise HedgeError(
            f"{path}: built by {' '.join(found)}, here is {' '.join(expected)}; "
            f"{trt_cache.fix(path)}"
        )
    plan = sidecar.read(path)
    return plan if sidecar.graph == graph and not sidecar.tf32 else None


def _place(bundle: Path, library: str, device: str) -> Path:
    return trt_cache.place(bundle, library, trt_builder.version(library), device)


def _devices(library: str) -> list[str]:
    """Names of the devices whose engines run here, the best first; the first is built."""
    portable = [PORTABLE] if library == "tensorrt_rtx" else []
    if not machine.gpus():
        if portable:
            return portable
        raise HedgeError(
            f"{library} builds on the machine that runs the engine, and here is no NVIDIA GPU; "
            "--engine tensorrt_rtx builds anywhere"
        )
    capability = f"sm{machine.compute_capability()}"
    if not portable:
        return [f"{'-'.join(machine.gpus()[0].split())}-{capability}"]
    known = capability in trt_builder.targets(library)  # a GPU that it does not name may run it yet
    return [capability, *portable] if known else portable
