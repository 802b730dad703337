"""One batch in flight on an NVIDIA GPU: buffers, stream, TensorRT's execution context, CUDA graph.

pycuda has no calls for graphs; cuda-python's work on the same stream.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from runtime import cli
from runtime.backends import trt_builder
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: PyTorch's work in the same process is not waited for


@cache
def primary_context() -> Any:
    """The first GPU's primary CUDA context, not current; TensorRT and PyTorch use the same one.

    It is kept until the process ends: pycuda's ``detach`` leaves a primary context on the
    driver's stack, and does nothing in a thread other than the first.
    """
    try:
        from pycuda import driver
    except ImportError as error:  # built for another CUDA
        raise HedgeError(f"pycuda does not start: {error}; install it anew") from error
    driver.init()
    return driver.Device(0).retain_primary_context()


@dataclass
class Graph:
    """A CUDA graph that can be launched; ``cuda`` is cuda-python's module."""

    cuda: Any
    executable: Any

    def launch(self, stream: Any) -> None:
        """Enqueue the whole graph on ``stream``."""
        _succeeded(self.cuda.cudaGraphLaunch(self.executable, stream.handle))

    def destroy(self) -> None:
        """Free the graph; no launch of it may be running."""
        self.cuda.cudaGraphExecDestroy(self.executable)


@dataclass(eq=False)
class Slot:
    """Every call is made with the CUDA context current. ``prepare`` comes first, ``free`` last.

    library: "tensorrt" or "tensorrt_rtx"; scratch: memory that the context was given to work in.
    """

    library: str
    context: Any = None
    scratch: Any = None
    stream: Any = None
    done: Any = None
    host: tuple[np.ndarray, ...] = ()
    device: tuple[Any, ...] = ()
    graph: Graph | None = None
    runs: int = 0
    captures: bool = True

    def prepare(self, engine: Any, manifest: Manifest) -> None:
        """Take what a batch needs; where this raises, ``free`` gives back what was taken."""
        from pycuda import driver

        try:
            self._take(engine, manifest)
        except driver.MemoryError as error:
            traceback.clear_frames(error.__traceback__)  # they hold the engine
            raise HedgeError(
                f"the GPU has no memory left for this engine ({error}); nvidia-smi shows who has it"
            ) from None

    def _take(self, engine: Any, manifest: Manifest) -> None:
        from pycuda import driver

        specs = (manifest.input, manifest.output)
        self.stream, self.done = driver.Stream(_NON_BLOCKING), driver.Event()
        self.host = tuple(driver.pagelocked_empty(spec.shape, np.uint8) for spec in specs)
        self.device = tuple(driver.mem_alloc(array.nbytes) for array in self.host)
        self._make_context(engine)
        self.context.set_input_shape(manifest.input.name, manifest.input.shape)
        for spec, memory in zip(specs, self.device, strict=True):
            self.context.set_tensor_address(spec.name, int(memory))

    def start(self, batch: np.ndarray) -> None:
        """Copy ``batch`` and enqueue all work on it."""
        self.host[0][:] = batch
        # The first run sets up what capturing may not: kernels are loaded, memory is taken.
        if self.runs == 1 and self.captures and self._capturable():
            self.graph = captured(self.stream, self._enqueue)
        if self.graph is not None:
            self.graph.launch(self.stream)
        else:
            self._enqueue()
        self.runs += 1
        self.done.record(self.stream)

    def finish(self) -> np.ndarray:
        """Wait for the labels."""
        self.done.synchronize()
        return self.host[1].copy()

    def without_graph(self) -> None:
        """Run without a graph from now on; nothing may be on the way."""
        self.captures = False
        if self.graph is not None:
            self.graph.destroy()
            self.graph = None

    def free(self) -> None:
        """Give everything back, users before what they use; also where ``prepare`` failed."""
        with ExitStack() as stack:
            stack.callback(self._forget)
            if self.graph is not None:
                stack.callback(self.graph.destroy)
            if self.stream is not None:
                self.stream.synchronize()

    def _make_context(self, engine: Any) -> None:
        from pycuda import driver

        strategies = trt_builder.load(self.library).ExecutionContextAllocationStrategy
        given = trt_builder.given_memory(self.library) is not None
        strategy = strategies.USER_MANAGED if given else strategies.STATIC
        self.context = engine.create_execution_context(strategy)
        if self.context is None:
            raise HedgeError(
                f"{self.library} cannot start its engine: {trt_builder.reasons(self.library)}"
            )
        if given:
            size = engine.device_memory_size_v2
            self.scratch = driver.mem_alloc(max(1, size))  # its addresses fit: multiples of 256
            self.context.set_device_memory(int(self.scratch), size)

    def _capturable(self) -> bool:
        """What TensorRT-RTX says of its work; TensorRT is not asked, for it has no word for it."""
        ask = getattr(self.context, "is_stream_capturable", None)
        if ask is None or ask(self.stream.handle):
            return True
        _warn_once("no CUDA graph, each frame is enqueued by itself: the engine's work is no graph")
        return False

    def _forget(self) -> None:
        """Drop the references: pycuda and TensorRT free an object with its last one."""
        self.graph = None
        self.context = None
        self.scratch = None
        self.device = ()
        self.host = ()
        self.done = None
        self.stream = None

    def _enqueue(self) -> None:
        from pycuda import driver

        driver.memcpy_htod_async(self.device[0], self.host[0], self.stream)
        if not self.context.execute_async_v3(self.stream.handle):
            raise HedgeError(
                f"{self.library} cannot run its engine: {trt_builder.reasons(self.library)}"
            )
        driver.memcpy_dtoh_async(self.host[1], self.device[1], self.stream)


def captured(stream: Any, enqueue: Callable[[], None]) -> Graph | None:
    """Record what ``enqueue`` does on ``stream``; None, and a warning once, where that fails."""
    try:
        from cuda.bindings import runtime as cuda

        require_driver(cuda)
        return _recorded(cuda, stream, enqueue)
    except Exception as error:  # pycuda and cuda-python raise types of their own
        _warn_once(f"no CUDA graph, each frame is enqueued by itself: {error}")
        return None


def require_driver(cuda: Any) -> None:
    """HedgeError if cuda-python is of a later major version of CUDA than the driver."""
    own = _succeeded(cuda.cudaRuntimeGetVersion())
    driver = _succeeded(cuda.cudaDriverGetVersion())
    if own // 1000 > driver // 1000:
        raise HedgeError(
            f"cuda-python is of CUDA {_dotted(own)}, the driver knows CUDA {_dotted(driver)}: "
            f"pip install 'cuda-python<{driver // 1000 + 1}', or a newer driver"
        )


def _recorded(cuda: Any, stream: Any, enqueue: Callable[[], None]) -> Graph:
    mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    _succeeded(cuda.cudaStreamBeginCapture(stream.handle, mode))
    with ExitStack() as stack:
        try:
            enqueue()
        finally:  # a stream that stays in capture mode could run nothing any more
            ended = cuda.cudaStreamEndCapture(stream.handle)
            if not int(ended[0]):
                stack.callback(cuda.cudaGraphDestroy, ended[1])
        return Graph(cuda, _succeeded(cuda.cudaGraphInstantiate(_succeeded(ended), 0)))


def _succeeded(answer: tuple[Any, ...]) -> Any:
    code, *values = answer
    if int(code):
        raise HedgeError(f"CUDA: {code.name}")
    return values[0] if values else None


def _dotted(version: int) -> str:
    """12020 → "12.2"."""
    return f"{version // 1000}.{version % 1000 // 10}"


@cache
def _warn_once(message: str) -> None:
    cli.warn(message)
