"""Stand-ins for pycuda, TensorRT and cuda-python that keep account of what is held and freed."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from runtime.bundle.manifest import Manifest


class Gpu:
    """A GPU's account: what is held, what was freed and whether the context was current then."""

    def __init__(self) -> None:
        self.current = 0
        self.retained = 0
        self.held: list[str] = []
        self.freed: list[str] = []
        self.outside: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.graphs = 0  # alive, of either kind
        self.launches = 0
        self.enqueued = 0
        self.scratch = 0  # bytes that an execution context must be given before it runs
        self.versions = (13000, 13000)  # of cuda-python, of the driver

    def call(self, name: str) -> None:
        if not self.current:
            self.outside.append(name)
        if name in self.fails:
            raise self.fails[name]


class Held:
    """Something that is freed with its last reference, as pycuda and TensorRT do it."""

    def __init__(self, gpu: Gpu, kind: str) -> None:
        gpu.call(kind)
        self.gpu, self.kind = gpu, kind
        gpu.held.append(kind)

    def __del__(self) -> None:
        if hasattr(self, "kind"):
            self.gpu.held.remove(self.kind)
            self.gpu.freed.append(self.kind)
            if not self.gpu.current:
                self.gpu.outside.append(f"free {self.kind}")


class Stream(Held):
    """Runs what is enqueued at once, or records it where a graph is captured."""

    recorded: list[Callable[[], None]] | None

    def __init__(self, gpu: Gpu, flags: int = 0) -> None:
        super().__init__(gpu, "stream")
        self.flags, self.recorded = flags, None
        self.synchronize = partial(gpu.call, "synchronize")  # as compiled code: no frame holds it

    @property
    def handle(self) -> Stream:
        return self

    def do(self, work: Callable[[], None]) -> None:
        work() if self.recorded is None else self.recorded.append(work)


class Memory(Held):
    def __init__(self, gpu: Gpu, size: int) -> None:
        super().__init__(gpu, "buffer")
        self.data = np.zeros(size, np.uint8)

    def __int__(self) -> int:
        return id(self)


class Context(Held):
    """Labels are the first channel of the frame."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__(gpu, "execution context")
        self.addresses: list[int] = []
        self.given = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None: ...

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses.append(address)

    def set_device_memory(self, memory: int, size: int) -> None:
        self.given = min(size, BUFFERS[memory].nbytes)

    def execute_async_v3(self, stream: Stream) -> bool:
        self.gpu.enqueued += 1
        if self.given < self.gpu.scratch:
            return False
        if stream.recorded is not None and "captured kernel" in self.gpu.fails:
            return False
        source, target = (BUFFERS[address] for address in self.addresses)

        def kernel() -> None:
            target[:] = source.reshape(-1, 3)[:, 0]

        stream.do(kernel)
        return True


class Inspector:
    """Tells of a layer in an engine for any number of frames."""

    execution_context: Context | None = None

    def get_engine_information(self, form: Form) -> str:
        frames = -1 if self.execution_context is None else 1
        layer = {
            "Weights": {"Type": "Half", "Count": 10},
            "Outputs": [{"Dimensions": [frames, 5, 2, 3]}],
        }
        return json.dumps({"Layers": [layer]})


BUFFERS: dict[int, np.ndarray] = {}  # by address


class Form(IntEnum):
    JSON = 1


class Error(IntEnum):
    cudaSuccess = 0
    cudaErrorStreamCaptureInvalidated = 901


def driver_of(gpu: Gpu) -> ModuleType:
    """Stands in for ``pycuda.driver``."""

    class Primary:
        def push(self) -> None:
            gpu.current += 1

        def pop(self) -> None:
            gpu.current -= 1

        def synchronize(self) -> None:
            gpu.call("synchronize context")

    def retained() -> Primary:
        gpu.retained += 1
        return Primary()

    def allocated(size: int) -> Memory:
        memory = Memory(gpu, size)
        BUFFERS[id(memory)] = memory.data
        return memory

    driver: Any = ModuleType("pycuda.driver")
    driver.init = lambda: None
    driver.Device = lambda number: SimpleNamespace(retain_primary_context=retained)
    driver.Stream = lambda flags=0: Stream(gpu, flags)
    driver.pagelocked_empty = lambda shape, dtype: np.zeros(shape, dtype)
    driver.mem_alloc = allocated
    driver.MemoryError = type("MemoryError", (Exception,), {})

    class Event(Held):
        def __init__(self) -> None:
            super().__init__(gpu, "event")

        def record(self, stream: Stream) -> None: ...

        def synchronize(self) -> None:
            gpu.call("synchronize event")

    def up(device: Memory, host: np.ndarray, stream: Stream) -> None:
        data = device.data
        stream.do(lambda: data.__setitem__(slice(None), host.ravel()))

    def down(host: np.ndarray, device: Memory, stream: Stream) -> None:
        data = device.data
        stream.do(lambda: host.ravel().__setitem__(slice(None), data))

    driver.Event, driver.memcpy_htod_async, driver.memcpy_dtoh_async = Event, up, down
    return driver


def runtime_of(gpu: Gpu) -> ModuleType:
    """Stands in for ``cuda.bindings.runtime``."""

    def begin(stream: Stream, mode: object) -> tuple[Error, ...]:
        stream.recorded = []
        return (Error.cudaSuccess,)

    def end(stream: Stream) -> tuple[Any, ...]:
        work, stream.recorded = stream.recorded, None
        if "capture" in gpu.fails:
            return Error.cudaErrorStreamCaptureInvalidated, None
        gpu.graphs += 1
        return Error.cudaSuccess, work

    def instantiated(graph: list[Callable[[], None]], flags: int) -> tuple[Any, ...]:
        if "instantiate" in gpu.fails:
            return Error.cudaErrorStreamCaptureInvalidated, None
        gpu.graphs += 1
        return Error.cudaSuccess, graph

    def launched(graph: list[Callable[[], None]], stream: Stream) -> tuple[Error, ...]:
        gpu.launches += 1
        for work in graph:
            work()
        return (Error.cudaSuccess,)

    def destroyed(graph: object) -> tuple[Error, ...]:
        gpu.call("destroy graph")
        gpu.graphs -= 1
        gpu.freed.append("graph")
        return (Error.cudaSuccess,)

    cuda: Any = ModuleType("cuda.bindings.runtime")
    cuda.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cuda.cudaStreamBeginCapture, cuda.cudaStreamEndCapture = begin, end
    cuda.cudaGraphInstantiate, cuda.cudaGraphLaunch = instantiated, launched
    cuda.cudaGraphDestroy = cuda.cudaGraphExecDestroy = destroyed
    cuda.cudaRuntimeGetVersion = lambda: (Error.cudaSuccess, gpu.versions[0])
    cuda.cudaDriverGetVersion = lambda: (Error.cudaSuccess, gpu.versions[1])
    return cuda


def tensorrt_of(gpu: Gpu, manifest: Manifest) -> ModuleType:
    """Stands in for ``tensorrt``, as far as running goes."""
    shapes = {spec.name: spec.shape for spec in (manifest.input, manifest.output)}

    class Engine(Held):
        def __init__(self) -> None:
            super().__init__(gpu, "engine")

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return shapes[name]

        def get_tensor_dtype(self, name: str) -> str:
            return "uint8"

        def create_execution_context(self, strategy: str) -> Context | None:
            refused = gpu.scratch and strategy != "USER_MANAGED"
            return None if refused or "memory" in gpu.fails else Context(gpu)

        def create_engine_inspector(self) -> Inspector:
            return Inspector()

        @property
        def device_memory_size_v2(self) -> int:
            return gpu.scratch

    class Runtime(Held):
        def __init__(self, logger: object) -> None:
            super().__init__(gpu, "runtime")

        def deserialize_cuda_engine(self, plan: bytes) -> Engine:
            return Engine()

    library: Any = ModuleType("tensorrt")
    library.Runtime, library.uint8 = Runtime, "uint8"
    library.BuilderFlag, library.LayerInformationFormat = SimpleNamespace(), Form
    library.ExecutionContextAllocationStrategy = SimpleNamespace(
        STATIC="STATIC", USER_MANAGED="USER_MANAGED"
    )
    return library
