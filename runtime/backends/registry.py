"""The backends by name, and how one is chosen and loaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple

import numpy as np

from runtime import machine
from runtime.backends import golden
from runtime.backends.auto import Setting, fastest
from runtime.backends.base import Engine, check_labels
from runtime.bundle import memory
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError, one_line


class Backend(NamedTuple):
    """A row of the table: its module, the library it needs, the extra that brings it, its device.

    The module has ``load(bundle, manifest, threads, backend, in_flight, device) -> Engine``, with
    backend the row's name and device one of its ``devices()``, or "" for the row's own kind.
    """

    module: str
    library: str
    extra: str
    device: Literal["cpu", "cuda"]


# In the order in which "auto" takes them where they are equally fast.
BACKENDS: dict[str, Backend] = {
    "tensorrt": Backend("runtime.backends.trt", "tensorrt", "tensorrt", "cuda"),
    "tensorrt_rtx": Backend("runtime.backends.trt", "tensorrt_rtx", "tensorrt-rtx", "cuda"),
    "openvino": Backend("runtime.backends.ov", "openvino", "openvino", "cpu"),
    "onnxruntime": Backend("runtime.backends.ort", "onnxruntime", "runtime", "cpu"),
}


def installed_backends() -> list[str]:
    """The backends whose library and whose device are here, in the table's order."""
    return [
        name
        for name, row in BACKENDS.items()
        if find_spec(row.library) and (row.device == "cpu" or machine.gpus())
    ]


def computes(engine: Engine) -> str:
    """The arithmetic an engine calculates in: "fp32", "fp16", "bf16" or "int8".

    ONNX Runtime casts FP16 to FP32 on a CPU; OpenVINO takes bf16 for it where the CPU has it.
    """
    if engine.manifest.precision == "int8":
        return "int8"
    on_cpu = engine.backend in BACKENDS and BACKENDS[engine.backend].device == "cpu"
    return getattr(engine, "computes", "fp32" if on_cpu else engine.manifest.precision)


def on_device(device: str, backends: Sequence[str]) -> dict[str, str]:
    """Those of ``backends`` that have ``device`` here, and how each spells it.

    device: a name of OpenVINO's or of ONNX Runtime's, in upper or lower case. HedgeError lists
    what is here where none has it.
    """
    here: dict[str, list[str]] = {}
    for name in backends:
        with suppress(HedgeError) if len(backends) > 1 else nullcontext():
            here[name] = devices(name)
    found = {
        name: own
        for name, names in here.items()
        for own in names
        if own.casefold() == device.casefold()
    }
    if not found:
        known = "; ".join(f"{name}: {', '.join(own) or 'none'}" for name, own in here.items())
        raise HedgeError(f"--device {device}: not here; here are {known or 'no engines'}")
    return found


def devices(backend: str) -> list[str]:
    """What a backend can compute on here; HedgeError where its library does not start."""
    return _module(backend).devices()


def load_engine(
    bundle: Path, backend: str = "auto", threads: int = 0, in_flight: int = 1, device: str = ""
) -> Engine:
    """Check the bundle's hashes, then load it.

    backend: a key of BACKENDS, or "auto" for the fastest here, which is measured once for a graph
    and remembered in the user's cache; threads: CPU threads, 0 leaves it to the library; in_flight:
    batches to work on at once, where the library gains by it (frames per second for milliseconds:
    each then has a part of the threads); device: see ``on_device``. Raises HedgeError for a damaged
    bundle, an unknown backend, a library that is not installed or a number out of its range,
    GateError for an engine that the golden frames refuse.
    """
    if threads < 0 or in_flight < 1:  # which one library takes as it likes, and another refuses
        raise HedgeError(f"threads {threads}, in_flight {in_flight}: give from 0, and from 1")
    manifest = Manifest.load(bundle)
    candidates = installed_backends() or ["onnxruntime"]  # whose error tells what to install
    if backend != "auto":
        candidates = [backend]
    places = on_device(device, candidates) if device else dict.fromkeys(candidates, "")
    load = partial(_load, bundle, manifest, threads, in_flight, places)
    if backend != "auto":
        return load(backend)
    candidates = list(places)
    setting = Setting(
        cpu=machine.cpu_name(),
        features=machine.cpu_features(),
        cores=machine.cores(),
        gpus=machine.gpus(),
        driver=machine.gpu_driver(),
        libraries={name: machine.version(BACKENDS[name].library) or "" for name in candidates},
        threads=threads,
        in_flight=in_flight,
        graphs={name: manifest.files[name] for name in sorted(manifest.graph_files)},
        device=device.casefold(),
    )
    return fastest(candidates, load, setting)


def _load(
    bundle: Path,
    manifest: Manifest,
    threads: int,
    in_flight: int,
    places: Mapping[str, str],
    backend: str,
) -> Engine:
    module, row, device = _module(backend), BACKENDS[backend], places[backend]
    on_cpu = row.device == "cpu" and device in ("", "CPU")
    with memory.bounded(bundle, manifest) if on_cpu else nullcontext():
        engine = module.load(bundle, manifest, threads, backend, in_flight, device)
        with ExitStack() as failed:
            failed.callback(engine.close)
            version = machine.version(row.library) or ""
            if not golden.require(engine, computes(engine), version, bundle):
                _answer_once(engine, bundle)
            failed.pop_all()
        return engine


def _module(backend: str) -> ModuleType:
    """A backend's module; HedgeError where it is unknown, not installed, or does not start."""
    if backend not in BACKENDS:
        raise HedgeError(f"unknown backend {backend!r}; choose auto, {', '.join(BACKENDS)}")
    row = BACKENDS[backend]
    fix = f"pip install 'hedge-seg[{row.extra}]'"
    if not find_spec(row.library):
        raise HedgeError(f"{row.library} is not installed: {fix}")
    try:
        return importlib.import_module(row.module)
    except ImportError as error:  # a library whose own libraries are missing
        raise HedgeError(f"{backend} does not start: {error}; {fix}") from error


def _answer_once(engine: Engine, bundle: Path) -> None:
    """Run ``engine`` on black: libraries allocate only then, and some graphs fail only then."""
    try:
        labels = engine.infer(np.zeros(engine.manifest.input.shape, np.uint8))
    except MemoryError:
        raise
    except Exception as error:  # each library raises types of its own
        raise HedgeError(
            f"{bundle}: {engine.backend} cannot run its graph: {one_line(error)}"
        ) from error
    check_labels(engine.manifest, labels)
