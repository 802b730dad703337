"""TensorRT 10 and 11 and TensorRT-RTX: build an engine from the bundle's graph, keep it, run it.

All three have one API under two names. Building needs no GPU with TensorRT-RTX; running needs one,
and pycuda. Precision is written into the graph (FP16 types, INT8 Q/DQ), so networks are strongly
typed: TensorRT 11 knows nothing else, TensorRT 10 is told by a flag.
"""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from runtime import cli, files, machine
from runtime.engine import BACKENDS, check_batch
from runtime.errors import HedgeError
from runtime.manifest import ENGINES, Manifest

IN_FLIGHT = 2  # one is copied while the other is computed
PORTABLE = "portable"  # what TensorRT-RTX builds where no compute capability is named


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    workspace_mib: scratch memory that a kernel may ask for; level: 0 (built fast) to 5 (runs
    fast), None for the library's default.
    """

    workspace_mib: int = 2048
    level: int | None = None


@dataclass(frozen=True)
class Sidecar:
    """What stands beside an engine: its own sha256, and everything that it was built from."""

    engine: str
    graph: str
    library: str
    version: str
    device: str
    options: BuildOptions


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
    manifest, trt = Manifest.load(bundle), _library(library)
    devices = list(targets) or [_devices(library)[0]]
    for device in devices:
        _capability(trt, device)
    options = options or BuildOptions()
    return [_built(bundle, manifest, library, device, options) for device in devices]


def load(
    bundle: Path, manifest: Manifest, threads: int, backend: str, in_flight: int = 1
) -> TrtEngine:
    """Load the engine that fits this GPU, building it where there is none yet.

    backend: the library; threads: of no meaning here. Raises HedgeError where the library, pycuda
    or the GPU is missing, or where the engine is not the one that its sidecar describes.
    """
    _library(backend)
    if not machine.gpus():
        raise HedgeError(
            f"{backend}: no NVIDIA GPU, or no driver for it (nvidia-smi shows both); "
            "CPU engines are --backend openvino and onnxruntime"
        )
    if not find_spec("pycuda"):
        raise HedgeError(f"pycuda is not installed: pip install 'hedge-seg[{_extra(backend)}]'")
    graph = manifest.files[manifest.graph(backend)]
    for device in _devices(backend):
        path = _place(bundle, backend, device)
        if path.exists() and (plan := _checked(path, graph, backend, device)) is not None:
            return TrtEngine(plan, manifest, backend)
    path = _built(bundle, manifest, backend, _devices(backend)[0], BuildOptions())
    return TrtEngine(path.read_bytes(), manifest, backend)


class TrtEngine:
    """A bundle on an NVIDIA GPU; see ``runtime.engine.Engine``.

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
        trt = _library(self.backend)
        self._runtime = trt.Runtime(_logger(self.backend))
        self._runtime.engine_host_code_allowed = False  # a plan is data, and stays data
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            reasons = "; ".join(_logger(self.backend).errors[-2:])
            raise HedgeError(f"{self.backend} does not load its engine: {reasons}")
        for spec in (self.manifest.input, self.manifest.output):
            shape = tuple(self._engine.get_tensor_shape(spec.name))
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
        plan = _plan(bundle / name, library, device, options, path.with_suffix(".timing"))
    sidecar = Sidecar(
        files.sha256_of(plan), manifest.files[name], library, _version(library), device, options
    )
    # The sidecar goes first: an engine without it would be refused, one beside an old one too.
    files.write_bytes(_sidecar(path), msgspec.json.format(msgspec.json.encode(sidecar)))
    files.write_bytes(path, plan)
    return path


def _plan(graph: Path, library: str, device: str, options: BuildOptions, timing: Path) -> bytes:
    """The serialized engine of an ONNX file; HedgeError names the node that is refused."""
    trt, logger = _library(library), _logger(library)
    logger.errors.clear()
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise HedgeError(f"{graph}: {library} refuses {_refused(parser)}")
    _keep_labels_only(network)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.level is not None:
        config.builder_optimization_level = options.level
    if (capability := _capability(trt, device)) is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability, 0)
    known = timing.read_bytes() if timing.exists() else b""
    config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        reasons = "; ".join(logger.errors[-2:]) or "no reason given"
        raise HedgeError(f"{graph}: {library} cannot build it: {reasons}")
    if library == "tensorrt":  # TensorRT-RTX compiles without timing kernels
        files.write_bytes(timing, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _keep_labels_only(network: Any) -> None:
    """Drop the scores from the outputs: this GPU upsamples and compares them itself."""
    outputs = [network.get_output(number) for number in range(network.num_outputs)]
    for tensor in outputs[1:]:
        network.unmark_output(tensor)


def _refused(parser: Any) -> str:
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    if not errors:
        return "it without a reason"
    error = errors[-1]
    node = f"node {error.node_name()!r} ({error.node_operator()})" if error.node_name() else "it"
    return f"{node}: {error.desc()}"


def _strongly_typed(trt: ModuleType) -> int:
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _checked(path: Path, graph: str, library: str, device: str) -> bytes | None:
    """The engine's bytes where they are what the sidecar says; None where the graph is newer.

    HedgeError before any parser sees a byte of a damaged engine, or of one built elsewhere.
    """
    fix = f"delete {path.name} and it is built anew"
    try:
        sidecar = msgspec.json.decode(_sidecar(path).read_bytes(), type=Sidecar)
    except (OSError, msgspec.MsgspecError) as error:
        raise HedgeError(f"{path}: engine without a readable sidecar ({error}); {fix}") from error
    expected = (library, _version(library), device)
    found = (sidecar.library, sidecar.version, sidecar.device)
    if found != expected:
        raise HedgeError(f"{path}: built by {' '.join(found)}, here is {' '.join(expected)}; {fix}")
    plan = path.read_bytes()
    if files.sha256_of(plan) != sidecar.engine:
        raise HedgeError(f"{path}: sha256 differs from its sidecar (damaged or replaced); {fix}")
    return plan if sidecar.graph == graph else None


def _place(bundle: Path, library: str, device: str) -> Path:
    return bundle / ENGINES / f"{library}-{_version(library)}-{device}.engine"


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


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


def _capability(trt: ModuleType, device: str) -> Any:
    """TensorRT-RTX's name for a target such as "sm89"; None where no target is to be named."""
    known = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    if not known or device == PORTABLE:
        return None
    if device.upper() not in known:
        targets = ", ".join(name.lower() for name in known if name.startswith("SM"))
        raise HedgeError(f"--target {device}: tensorrt_rtx builds for {targets}")
    return known[device.upper()]


def _library(name: str) -> ModuleType:
    if not find_spec(name):
        raise HedgeError(
            f"{name} is not installed: pip install 'hedge-seg[{_extra(name)}]' "
            "(on a Jetson, JetPack brings tensorrt: make the venv with --system-site-packages)"
        )
    return importlib.import_module(name)


def _extra(library: str) -> str:
    return BACKENDS[library].extra


def _version(library: str) -> str:
    return str(_library(library).__version__)


@cache
def _logger(library: str) -> Any:
    """The one logger that a library accepts in a process; it keeps errors and drops the rest."""
    trt = _library(library)

    class Logger(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(" ".join(message.split()))

    return Logger()
