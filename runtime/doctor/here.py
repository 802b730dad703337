"""What this machine is, which libraries it has, and what it lacks."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from runtime import machine
from runtime.backends.registry import BACKENDS


@dataclass(frozen=True)
class Machine:
    """features: the CPU's instructions that engines choose kernels by; memory_gib: of the machine;
    gpus: NVIDIA's; driver: theirs, "" where there is none."""

    system: str
    python: str
    cpu: str
    features: tuple[str, ...]
    cores: int
    memory_gib: float
    gpus: tuple[str, ...]
    driver: str


@dataclass(frozen=True)
class Library:
    """version: None where it is not installed."""

    name: str
    version: str | None


@dataclass(frozen=True)
class Missing:
    """What is not here and what brings it, in a line."""

    name: str
    fix: str


class _Row(NamedTuple):
    distribution: str
    module: str
    extra: str  # "" of what every installation has
    gpu: bool = False  # of use beside an NVIDIA GPU alone


_LIBRARIES = (
    _Row("numpy", "numpy", ""),
    _Row("opencv-python-headless", "cv2", ""),
    _Row("av", "av", ""),
    *(_Row(row.library, row.library, row.extra, row.device == "cuda") for row in BACKENDS.values()),
    _Row("pycuda", "pycuda", "tensorrt", gpu=True),
    _Row("cuda-bindings", "cuda", "tensorrt", gpu=True),
    _Row("uvicorn", "uvicorn", "web"),
)
_INTEL = "0x8086"
# Where Linux shows a device of Intel's, what OpenVINO calls it, and what it needs to find it.
_DRIVERS = (
    (
        "/sys/class/drm/renderD128/device/vendor",
        "GPU",
        "Intel's runtime (intel-opencl-icd)",
    ),
    ("/sys/class/accel/accel0/device/vendor", "NPU", "Intel's NPU driver (linux-npu-driver)"),
)


def this_machine() -> Machine:
    """As the system and the NVIDIA driver tell."""
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        cpu=machine.cpu_name(),
        features=machine.cpu_features(),
        cores=machine.cores(),
        memory_gib=round(machine.memory() / (1 << 30), 1),
        gpus=machine.gpus(),
        driver=machine.gpu_driver(),
    )


def libraries() -> list[Library]:
    """All that streaming can use, in the order of the data."""
    return [
        Library(row.distribution, machine.version(row.distribution) or "unknown")
        if find_spec(row.module)
        else Library(row.distribution, None)
        for row in _LIBRARIES
    ]


def missing(devices: dict[str, list[str]]) -> list[Missing]:
    """What could be installed here; devices: those that each backend found.

    Libraries for NVIDIA GPUs are of no use where there is none.
    """
    found = [
        Missing(row.distribution, f"pip install 'hedge-seg[{row.extra or 'runtime'}]'")
        for row in _LIBRARIES
        if not find_spec(row.module) and (machine.gpus() or not row.gpu)
    ]
    for path, name, driver in _DRIVERS:
        vendor = Path(path)
        here = vendor.is_file() and vendor.read_text().strip() == _INTEL
        if here and "openvino" in devices and name not in devices["openvino"]:
            found.append(Missing(f"OpenVINO on the {name}", f"install {driver}"))
    if machine.gpus() and "onnxruntime" in devices and "CUDA" not in devices["onnxruntime"]:
        fix = "pip install onnxruntime-gpu in place of onnxruntime"
        found.append(Missing("ONNX Runtime on the GPU", fix))
    return found
