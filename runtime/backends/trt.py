"""TensorRT 10 and 11 and TensorRT-RTX: build an engine from the bundle's graph, keep it, run it.

All three have one API under two names. Building (``runtime.backends.trt_builder``) needs no GPU
with TensorRT-RTX; running needs one, and pycuda.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from runtime import cli, files, machine
from runtime.backends import trt_builder, trt_cache
from runtime.backends.base import check_batch
from runtime.backends.registry import BACKENDS
from runtime.backends.trt_builder import PORTABLE
from runtime.backends.trt_cache import BuildOptions, Sidecar
from runtime.bundle.manifest import ENGINES, Manifest
from runtime.errors import HedgeError

IN_FLIGHT = 2  # one is copied while the other is computed


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


def load(
    bundle: Path, manifest: Manifest, threads: int, backend: str, in_flight: int = 1
) -> TrtEngine:
    """Load the engine that fits this GPU, building it where there is none yet.

    backend: the library; threads: of no meaning here. Raises HedgeError where the library, pycuda
    or the GPU is missing, or where the engine is not the one that its sidecar describes.
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
            return TrtEngine(plan, manifest, backend)
    path = _built(bundle, manifest, backend, _devices(backend)[0], BuildOptions())
    return TrtEngine(path.read_bytes(), manifest, backend)


class TrtEngine:
    """A bundle on an NVIDIA GPU; see ``runtime.backends.base.Engine``.

    ``submit`` and ``result`` keep up to two batches in flight, answered in order, so that copies
    and kernels overlap; ``infer`` is one after the other. Each call makes the engine's own CUDA
    context current and leaves none behind: any thread may call, one at a time.
    """

    in_flight = IN_FLIGHT

    def __init__(self, plan: bytes, manifest: Manifest, backend: str) -> None:
        self.manifest, self.backend = manifest, backend
        self._waiting: deque[_Slot] = deque()
        self._stack: ExitStack | None = None
        with ExitStack() as stack:
            context = _context()
            stack.callback(context.detach)
            self._context = context
            with self._current():
                self._slots = self._prepared(plan, stack)
            self._stack = stack.pop_all()

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        if self._waiting:
            raise RuntimeError("batches are in flight; take their results first")
        self.submit(batch)
        return self.result()

    def submit(self, batch: np.ndarray) -> None:
        """Start on ``batch`` and return at once; RuntimeError with two in flight already."""
        check_batch(self.manifest, batch)
        assert self._stack is not None, "submit after close"
        if len(self._waiting) == IN_FLIGHT:
            raise RuntimeError(f"{IN_FLIGHT} batches are in flight; take a result first")
        slot = next(slot for slot in self._slots if slot not in self._waiting)
        with self._current():
            slot.start(batch)
        self._waiting.append(slot)

    def result(self) -> np.ndarray:
        """Wait for the oldest batch in flight: its (N, H, W) uint8 labels."""
        assert self._stack is not None, "result after close"
        slot = self._waiting.popleft()
        with self._current():
            return slot.finish()

    def close(self) -> None:
        """See ``Engine``."""
        stack, self._stack = self._stack, None
        if stack is not None:
            with self._current():  # buffers and plans are freed inside the context that owns them
                for slot in self._slots:
                    slot.stream.synchronize()
                self._waiting.clear()
                self._slots = []
                del self._engine, self._runtime
            stack.close()

    def __enter__(self) -> TrtEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def _prepared(self, plan: bytes, stack: ExitStack) -> list[_Slot]:
        trt = trt_builder.load(self.backend)
        self._runtime = trt.Runtime(trt_builder.logger(self.backend))
        self._runtime.engine_host_code_allowed = False  # a plan is data, and stays data
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            reasons = "; ".join(trt_builder.logger(self.backend).errors[-2:])
            raise HedgeError(f"{self.backend} does not load its engine: {reasons}")
        for spec in (self.manifest.input, self.manifest.output):
            shape = tuple(self._engine.get_tensor_shape(spec.name))
            shape = (spec.shape[0], *shape[1:]) if shape[:1] == (-1,) else shape  # takes any number
            if shape != spec.shape or self._engine.get_tensor_dtype(spec.name) != trt.uint8:
                raise HedgeError(
                    f"{self.backend}: the engine's {spec.name} is {shape}, the manifest says uint8 "
                    f"{spec.shape}; delete {ENGINES}/ in the bundle"
                )
        return [_Slot.of(self._engine, self.manifest) for _ in range(IN_FLIGHT)]


@dataclass(eq=False)
class _Slot:
    """All that one batch in flight needs: buffers, stream, execution context, CUDA graph."""

    context: Any
    stream: Any
    done: Any
    host: tuple[np.ndarray, np.ndarray]
    device: tuple[Any, Any]
    graph: Any = None
    runs: int = field(default=0)

    @classmethod
    def of(cls, engine: Any, manifest: Manifest) -> _Slot:
        from pycuda import driver

        specs = (manifest.input, manifest.output)
        host = tuple(driver.pagelocked_empty(spec.shape, np.uint8) for spec in specs)
        device = tuple(driver.mem_alloc(array.nbytes) for array in host)
        context = engine.create_execution_context()
        context.set_input_shape(manifest.input.name, manifest.input.shape)
        for spec, memory in zip(specs, device, strict=True):
            context.set_tensor_address(spec.name, int(memory))
        return cls(context, driver.Stream(), driver.Event(), host, device)

    def start(self, batch: np.ndarray) -> None:
        self.host[0][:] = batch
        # The first run sets up what capturing may not: kernels are loaded, memory is taken.
        if self.runs == 1:
            self.graph = _captured(self.stream, self._enqueue)
        if self.graph is not None:
            self.graph(self.stream)
        else:
            self._enqueue()
        self.runs += 1
        self.done.record(self.stream)

    def finish(self) -> np.ndarray:
        self.done.synchronize()
        return self.host[1].copy()

    def _enqueue(self) -> None:
        from pycuda import driver

        driver.memcpy_htod_async(self.device[0], self.host[0], self.stream)
        if not self.context.execute_async_v3(self.stream.handle):
            raise HedgeError("TensorRT could not run the engine; is another process using the GPU?")
        driver.memcpy_dtoh_async(self.host[1], self.device[1], self.stream)


def _captured(stream: Any, enqueue: Any) -> Any:
    """Record what ``enqueue`` does on ``stream`` as a CUDA graph; None without cuda-python.

    pycuda has no calls for graphs; cuda-python's work on the same stream.
    """
    try:
        from cuda.bindings import runtime as cuda
    except ImportError:
        return None
    mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    _succeeded(cuda.cudaStreamBeginCapture(stream.handle, mode))
    try:
        enqueue()
    finally:
        graph = cuda.cudaStreamEndCapture(stream.handle)
    executable = _succeeded(cuda.cudaGraphInstantiate(_succeeded(graph), 0))
    return lambda on: _succeeded(cuda.cudaGraphLaunch(executable, on.handle))


def _succeeded(answer: tuple[Any, ...]) -> Any:
    code, *values = answer
    if int(code):
        raise HedgeError(f"CUDA: {code.name}")
    return values[0] if values else None


def _context() -> Any:
    """A CUDA context of this engine's own on the first GPU, not current."""
    from pycuda import driver

    driver.init()
    context = driver.Device(0).make_context()
    context.pop()
    return context


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
    )
    trt_cache.save(path, plan, sidecar)
    return path


def _checked(path: Path, graph: str, library: str, device: str) -> bytes | None:
    """The engine's bytes where they are what the sidecar says; None where the graph is newer.

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
    return plan if sidecar.graph == graph else None


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
    name = "-".join(machine.gpus()[0].split())
    return [capability, *portable] if portable else [f"{name}-{capability}"]
