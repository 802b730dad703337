"""OpenVINO on CPUs (Intel, AMD, ARM), where it is the fastest measured, and Intel GPUs and NPUs."""

from __future__ import annotations

import functools
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from io import BytesIO
from math import prod
from pathlib import Path

import cv2
import numpy as np
import openvino
from openvino import properties
from openvino.properties import hint, intel_auto

from runtime import machine
from runtime.backends.base import check_batch
from runtime.backends.label_tail import Scored, label_tail
from runtime.bundle.cached import Cached
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError, one_line
from runtime.interrupt import Closing

BACKEND = "openvino"
MODELS = Cached("openvino", 16)  # compiled; a MobileNet's is 5 to 20 MB
CPU, AUTO = "CPU", "AUTO"
_ARITHMETIC = {
    "f32": "fp32", "bf16": "bf16", "f16": "fp16", "u8": "int8", "i8": "int8",
}  # fmt: skip
_ENTRANCE = {"Parameter", "Convert", "Transpose"}  # from a frame to its planes
_LINEAR = {
    "mode": "linear_onnx",
    "coordinate_transformation_mode": "half_pixel",
    "antialias": False,
}
_MATRICES = {"FullyConnected", "MatMul"}  # in graphs as executed
_PRODUCTS = _MATRICES | {"Convolution", "Deconvolution"}


class OvEngine(Scored, Closing):
    """A bundle in an OpenVINO infer request; see ``runtime.backends.base.Engine``.

    computes: the arithmetic of what is not quantised, as the library chose it: "fp32", "bf16" or
    "fp16"; device: what computes, by its full name, and of which driver.
    """

    def __init__(
        self,
        model: openvino.CompiledModel,
        manifest: Manifest,
        backend: str,
        in_flight: int,
        device: str = CPU,
    ) -> None:
        self.manifest, self.backend, self.in_flight = manifest, backend, in_flight
        self._model = model
        self.computes, self.device = _computes(model, manifest), _described(model, device)
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
        fill(request, batch)
        request.start_async()

    def result(self) -> np.ndarray:
        """See ``Engine``."""
        request = self._running.popleft()
        try:
            request.wait()
            return self._labelled(request.get_output_tensor().data)
        finally:
            self._free.append(request)

    def multiply_adds(self) -> dict[str, int]:
        """See ``products``."""
        return products(self._model)

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


def devices() -> list[str]:
    """What the library finds here: "CPU", "GPU", "GPU.1", "NPU", …, and "AUTO", its own choice."""
    found = list(core().available_devices)
    return list(dict.fromkeys([*found, *(name.split(".")[0] for name in found), AUTO]))


def load(
    bundle: Path,
    manifest: Manifest,
    threads: int,
    backend: str,
    in_flight: int = 1,
    device: str = "",
) -> OvEngine:
    """Compile the bundle's graph for ``device``, the CPU unless said.

    threads: of a CPU, 0 leaves them to the library.

    What lies behind its scores is left out: ``runtime.backends.label_tail`` is faster than the
    graph's own end.
    """
    wanted, _ = label_tail(manifest)
    model = compiled(bundle, manifest, wanted, threads, in_flight, device)
    return OvEngine(model, manifest, backend, in_flight, device or CPU)


def compiled(
    bundle: Path,
    manifest: Manifest,
    wanted: str,
    threads: int,
    in_flight: int = 1,
    device: str = "",
    profiled: bool = False,
) -> openvino.CompiledModel:
    """The library's model of the bundle's graph, up to the tensor ``wanted``.

    An FP32 bundle runs in FP32 (the library would take bf16 by itself where the CPU has it);
    other bundles run in the device's fastest arithmetic. Several batches in flight share the
    threads without ever waiting for each other, which one batch's threads do at every layer.
    profiled: it times what it executes, and is not kept.
    """
    mode = hint.PerformanceMode
    config: dict[str, object] = {hint.performance_mode(): mode.LATENCY}
    if in_flight > 1:
        config = {hint.performance_mode(): mode.THROUGHPUT, hint.num_requests(): in_flight}
    if in_flight > 1 and (device or CPU) == CPU:
        config = {hint.performance_mode(): mode.THROUGHPUT, properties.num_streams(): in_flight}
    if manifest.precision == "fp32":
        config[hint.inference_precision()] = openvino.Type.f32
    if device == AUTO:  # what proves itself at the start is what goes on
        config[intel_auto.enable_startup_fallback()] = False
        config[intel_auto.enable_runtime_fallback()] = False
    if threads and (device or CPU) == CPU:
        config[properties.inference_num_threads()] = threads
    if profiled:
        config[properties.enable_profiling()] = True
    graph = bundle / manifest.graph(BACKEND)
    try:
        model = partial(_compile, bundle, manifest, wanted, device or CPU, config)
        if (device or CPU) != CPU or profiled:
            return model()
        return _kept(f"{manifest.digest} {wanted} of frames as fill gives them", config, model)
    except (RuntimeError, ValueError) as error:  # ValueError: its message is not text
        raise HedgeError(f"{graph}: OpenVINO refuses it: {one_line(error)}") from error


def _compile(
    bundle: Path, manifest: Manifest, wanted: str, device: str, config: Mapping[str, object]
) -> openvino.CompiledModel:
    return core().compile_model(part(bundle, manifest, wanted, device), device, config)


def _kept(
    source: str, config: Mapping[str, object], make: Callable[[], openvino.CompiledModel]
) -> openvino.CompiledModel:
    """The CPU's model that ``make`` makes, read from the cache if it was made here before.

    That takes a sixth of the time. source: names the graph by its content; another library,
    processor or setting is another model.
    """
    cpu = (machine.cpu_name(), *machine.cpu_features(), machine.cores())
    made = (source, openvino.get_version(), sorted(map(str, config.items())), cpu)
    if data := MODELS.read(made):
        with suppress(RuntimeError):  # refused: it is made anew
            return core().import_model(BytesIO(data), CPU, dict(config))
    model = make()
    with suppress(RuntimeError):  # a device that exports nothing
        if MODELS.keeps:
            MODELS.write(made, bytes(model.export_model().getbuffer()))
    return model


def part(bundle: Path, manifest: Manifest, wanted: str, device: str = CPU) -> openvino.Model:
    """The bundle's graph up to the tensor ``wanted``.

    In INT8 on a CPU it takes frames of the network's size, to which ``fill`` brings them: OpenCV
    is ten times as fast there as the library, and such a graph rounds them to bytes as well.
    """
    model = core().read_model(bundle / manifest.graph(BACKEND))
    if manifest.precision == "int8" and device == CPU:
        _leave_resizing(model)
    return openvino.Model([model.output(wanted)], model.get_parameters())


def _leave_resizing(model: openvino.Model) -> None:
    """Let frames enter as they are resized, where nothing reads them but resized."""
    frame, *others = model.get_parameters()
    node: openvino.Node = frame
    while node.get_type_name() in _ENTRANCE:
        readers = node.output(0).get_target_inputs()
        if len(readers) != 1:
            return
        node = readers.pop().get_node()
    resized, how = node.output(0), node.get_attributes()
    fixed = node.get_type_name() == "Interpolate" and resized.get_partial_shape().is_static
    if others or not fixed or any(how.get(key) != _LINEAR[key] for key in _LINEAR):
        return
    planes = node.input_value(0)
    batch, high, wide, channels = frame.get_output_shape(0)
    *same, height, width = resized.shape
    if list(planes.shape) != [batch, channels, high, wide] or same != [batch, channels]:
        return
    for reader in resized.get_target_inputs():
        reader.replace_source_output(planes)
    frame.set_partial_shape(openvino.PartialShape([batch, height, width, channels]))
    model.validate_nodes_and_infer_types()


def fill(request: openvino.InferRequest, batch: np.ndarray) -> None:
    """Put a batch of frames into a request's own memory, resized where ``part`` left that."""
    places = request.get_input_tensor().data
    height, width = places.shape[1:3]
    for frame, place in zip(batch, places, strict=True):
        cv2.resize(frame, (width, height), dst=place, interpolation=cv2.INTER_LINEAR)


def _computes(model: openvino.CompiledModel, manifest: Manifest) -> str:
    if manifest.precision == "fp32":  # as the library is told
        return "fp32"
    try:
        precision = model.get_property(hint.inference_precision())
    except RuntimeError:  # AUTO does not say, the device behind it does
        (device,) = model.get_property("EXECUTION_DEVICES")[:1]
        precision = core().get_property(device, hint.inference_precision())
    return _ARITHMETIC.get(precision.get_type_name(), "fp32")


def _described(model: openvino.CompiledModel, device: str) -> str:
    """A device as the library names it, with what is behind AUTO, its full name and its driver."""
    words = [device]
    names = [device]
    if device == AUTO:
        names = list(model.get_property("EXECUTION_DEVICES"))
        words += names
    for name in names if names != [CPU] else []:
        for key in ("FULL_DEVICE_NAME", "GPU_DRIVER_VERSION", "NPU_DRIVER_VERSION"):
            with suppress(RuntimeError):
                words.append(str(core().get_property(name, key)))
    return " ".join(words)


def products(model: openvino.CompiledModel) -> dict[str, int]:
    """Multiply-adds of a batch, by the arithmetic that computes them.

    Told by the graph that the library executes, not by the one that it was given; empty where the
    library does not say.
    """
    found: Counter[str] = Counter()
    with suppress(RuntimeError):  # a device that keeps its graph to itself
        for node in model.get_runtime_model().get_ops():
            own = products_of(node)
            if own is None:
                return {}
            found.update(own)
    return dict(found)


def products_of(node: openvino.Node) -> dict[str, int] | None:
    """The same of a node of that graph; None where it does not tell what it reads."""
    info = node.get_rt_info()
    kind = str(info["layerType"].astype(str))
    if kind not in _PRODUCTS:
        return {}
    if node.get_input_size() < 2:
        return None
    precision = str(info["runtimePrecision"].astype(str))
    return {_ARITHMETIC.get(precision, precision): _products(node, kind in _MATRICES)}


def _products(node: openvino.Node, matrices: bool) -> int:
    """Multiply-adds of a convolution or a product of matrices, from its shapes as executed."""
    frames, weights = (tuple(node.get_input_shape(number)) for number in (0, 1))
    shape = tuple(node.get_output_shape(0))
    if matrices:
        return prod(shape) * prod(frames[-2:]) // shape[-2]  # rows by columns, or turned
    return prod(shape) * prod(weights[2 if len(weights) > len(frames) else 1 :])  # groups first
