"""ONNX graph → TensorRT plan, in TensorRT 10, 11 and TensorRT-RTX; none of it needs a GPU.

Precision is written into the graph (FP16 types, INT8 Q/DQ), so networks are strongly typed:
TensorRT 11 knows nothing else, TensorRT 10 is told by a flag.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from runtime import files
from runtime.backends.registry import BACKENDS
from runtime.backends.trt_cache import BuildOptions
from runtime.errors import HedgeError

_ARITHMETIC = {"Float": "fp32", "Half": "fp16", "BFloat16": "bf16", "Int8": "int8", "FP8": "fp8"}
PORTABLE = "portable"  # what TensorRT-RTX builds where no compute capability is named


def plan(graph: Path, library: str, device: str, options: BuildOptions, timing: Path) -> bytes:
    """The serialized engine of an ONNX file; HedgeError names the node that is refused.

    device: as ``capability`` takes it; timing: where TensorRT's measurements of kernels are kept
    from one build to the next.
    """
    builder = started(library, "Builder")
    network = parsed(builder, graph, library)
    config = configured(builder, library, options)
    if (target := capability(library, device)) is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(target, 0)
    if options.max_batch is not None:
        take_up_to(options.max_batch, library, network)
        config.add_optimization_profile(_profile(builder, network, options.max_batch))
    if library == "tensorrt":  # TensorRT-RTX times no kernels, and with a cache it wants a GPU
        known = files.read_sealed(timing)
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise HedgeError(f"{graph}: {library} cannot build it: {reasons(library)}")
    if library == "tensorrt":
        files.save_sealed(timing, bytes(config.get_timing_cache().serialize()))
    return bytes(built)


def configured(builder: Any, library: str, options: BuildOptions) -> Any:
    """The library's settings of a build. FP32 is computed in FP32: TF32 is the library's default.

    TF32 has FP16's ten bits, and a bundle in FP32 must give the labels of FP32.
    """
    trt, config = load(library), builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if (given := given_memory(library)) is not None:
        config.set_flag(given)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for what ``products`` reads
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.level is not None:
        config.builder_optimization_level = options.level
    return config


def given_memory(library: str) -> Any:
    """TensorRT-RTX's flag for engines that run in memory that they are given; None of TensorRT.

    Without it an engine may take memory as it runs, which no CUDA graph can hold; with it the
    library makes no execution context that takes memory by itself.
    """
    return getattr(load(library).BuilderFlag, "REQUIRE_USER_ALLOCATION", None)


def products(described: str) -> dict[str, int]:
    """Multiply-adds by arithmetic, of the JSON that an engine's inspector describes layers in.

    Empty where it names layers without saying what is in them, as of engines built without detail,
    or says it in another form: an engine that works is not lost for that.
    """
    found: Counter[str] = Counter()
    try:
        for layer in json.loads(described).get("Layers", []):
            if not isinstance(layer, dict) or not (weights := layer.get("Weights")):
                continue
            _, height, width = ([1, 1] + layer["Outputs"][0]["Dimensions"])[-3:]
            frames = layer["Outputs"][0]["Dimensions"][0]
            kind = _ARITHMETIC.get(weights["Type"], weights["Type"])
            found[kind] += frames * height * width * weights["Count"]
    except (AttributeError, LookupError, TypeError, ValueError):
        return {}
    return dict(found)


def parsed(builder: Any, graph: Path, library: str) -> Any:
    """The library's network of an ONNX file, from frame to labels."""
    trt = load(library)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger(library))
    if not parser.parse_from_file(str(graph)):
        raise HedgeError(f"{graph}: {library} refuses {_refused(parser)}")
    # The scores are no output here: this GPU upsamples and compares them itself.
    outputs = [network.get_output(number) for number in range(network.num_outputs)]
    for tensor in outputs[1:]:
        network.unmark_output(tensor)
    return network


def take_up_to(largest: int, library: str, network: Any) -> None:
    """Let ``network`` take 1 to ``largest`` frames, whatever number its graph was written for.

    That number stands in the input's shape and in the targets of resizes and reshapes.
    """
    kinds, frame = load(library).LayerType, network.get_input(0)
    frame.shape = (-1, *tuple(frame.shape)[1:])
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    shape = network.add_shape(frame).get_output(0)
    batch = network.add_slice(shape, (0,), (1,), (1,)).get_output(0)
    for layer in layers:  # in graph order: what one says of its shape is true for the next
        if layer.type == kinds.RESIZE:
            target = _constant(tuple(layer.get_output(0).shape)[1:])
            size = network.add_constant(target.shape, target).get_output(0)
            layer.set_input(1, network.add_concatenation([batch, size]).get_output(0))
        elif layer.type == kinds.SHUFFLE and tuple(layer.get_input(0).shape)[:1] == (-1,):
            layer.__class__ = load(library).IShuffleLayer
            if layer.reshape_dims is not None:
                layer.reshape_dims = (-1, *tuple(layer.reshape_dims)[1:])
    if network.get_output(0).shape[0] != -1:
        raise HedgeError(f"--max-batch {largest}: {library} keeps to the graph's number of frames")


def targets(library: str) -> dict[str, Any]:
    """What TensorRT-RTX builds for, as "sm89", and its own name for it; empty of TensorRT."""
    known = getattr(getattr(load(library), "ComputeCapability", None), "__members__", {})
    return {name.lower(): value for name, value in known.items() if name.startswith("SM")}


def capability(library: str, device: str) -> Any:
    """TensorRT-RTX's name for a target such as "sm89"; None where no target is to be named."""
    known = targets(library)
    if not known or device == PORTABLE:
        return None
    if device.lower() not in known:
        raise HedgeError(f"--target {device}: tensorrt_rtx builds for {', '.join(known)}")
    return known[device.lower()]


def started(library: str, kind: str) -> Any:
    """The library's "Builder" or "Runtime"; HedgeError where the driver is too old for it."""
    log = logger(library)
    log.errors.clear()
    try:
        return getattr(load(library), kind)(log)
    except TypeError as error:  # what its bindings make of nothing
        raise HedgeError(
            f"{library} {version(library)} does not start with this driver: {reasons(library)}; "
            "nvidia-smi shows which CUDA the driver knows"
        ) from error


def reasons(library: str) -> str:
    """The library's last errors."""
    return "; ".join(logger(library).errors[-2:]) or "no reason given"


def load(library: str) -> ModuleType:
    """The library's module; HedgeError says how to install it where it is missing, and what it
    lacks itself."""
    if not find_spec(library):
        raise HedgeError(
            f"{library} is not installed: pip install 'hedge-seg[{BACKENDS[library].extra}]' "
            "(on a Jetson, JetPack brings tensorrt: make the venv with --system-site-packages)"
        )
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise HedgeError(f"{library} does not start: {error}") from error


def version(library: str) -> str:
    """The library's version, as in "10.3.0"."""
    return str(load(library).__version__)


@cache
def logger(library: str) -> Any:
    """The one logger that a library accepts in a process; it keeps errors and drops the rest."""
    trt = load(library)

    class Logger(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(" ".join(message.split()))

    return Logger()


@cache
def _constant(numbers: tuple[int, ...]) -> np.ndarray:
    """int64, and kept: networks refer to the memory of what they are given."""
    return np.array(numbers, np.int64)


def _profile(builder: Any, network: Any, largest: int) -> Any:
    """1 to ``largest`` frames, tuned for ``largest``."""
    frame, profile = network.get_input(0), builder.create_optimization_profile()
    image = tuple(frame.shape)[1:]
    profile.set_shape(frame.name, (1, *image), (largest, *image), (largest, *image))
    return profile


def _refused(parser: Any) -> str:
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    if not errors:
        return "it without a reason"
    error = errors[-1]
    node = f"node {error.node_name()!r} ({error.node_operator()})" if error.node_name() else "it"
    return f"{node}: {' '.join(error.desc().split())}"


def _strongly_typed(trt: ModuleType) -> int:
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)
