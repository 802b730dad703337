"""What a reader must know of the machine, how much memory is left, and who uses its CPU."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path

import psutil
import pynvml

from benchmarks.results import Fact
from runtime import machine as here

LIBRARIES = ("openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "torch", "numpy")
# A container may have less than the machine: limit, use, and what of it are files that were read,
# which the kernel drops for whoever needs memory; of cgroups version 2 and 1.
_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)  # fmt: skip


def machine() -> dict[str, Fact]:
    """What a reader must know of the machine to compare numbers."""
    return {
        "cpu": here.cpu_name(),
        "cores": here.cores(),
        "granted_cores": here.granted(),  # fewer in a container with a quota of CPU time
        "gpus": here.gpus(),
        "memory_mb": round(psutil.virtual_memory().total / 1e6),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in LIBRARIES if (version := here.version(name))},
    }


def free_mb() -> float:
    """Memory that can still be taken without swapping, by the machine and by the container."""
    free = psutil.virtual_memory().available / 1e6
    for folder, limit, use, files in _CGROUPS:
        with suppress(OSError, ValueError):  # another version, no limit ("max"), another system
            left = int((folder / limit).read_text()) - int((folder / use).read_text())
            stat = dict(map(str.split, (folder / "memory.stat").read_text().splitlines()))
            free = min(free, (left + int(stat.get(files, 0))) / 1e6)
    return free


def gpu_free_mb() -> float | None:
    """Memory of the first GPU that nobody holds; None where the driver does not tell."""
    if (handle := first_gpu()) is None:
        return None
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).free) / 1e6
    except pynvml.NVMLError:  # the GPU has no memory of its own, as a Jetson's
        return None


def first_gpu() -> object | None:
    """NVML's handle of the GPU that CUDA calls the first, whatever is hidden from this process."""
    if not here.gpus():
        return None
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByPciBusId(here.gpu_bus())
    except pynvml.NVMLError:
        return None


def peak_mb(process: int) -> float | None:
    """Memory of a process at its highest so far, which psutil does not tell; None where the system
    does not say."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 / 1e6 if found else None


def busy_s() -> float:
    """Seconds that all CPUs together have been busy since the start."""
    times = psutil.cpu_times()._asdict()
    ours = ("user", "nice", "system", "irq", "softirq", "steal")  # user holds guests, too
    return sum(times.get(name, 0.0) for name in ours)


def used_s(process: int) -> float:
    """CPU seconds of a process and of those that it has waited for; 0 where it is gone."""
    try:
        times = psutil.Process(process).cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system + times.children_user + times.children_system
