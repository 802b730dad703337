"""What this machine computes with: its CPU, and the GPUs that the NVIDIA driver offers."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import time
from functools import cache
from importlib import metadata
from pathlib import Path

_DRIVER = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
_MANAGEMENT = "nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1"
# What engines choose their kernels by, as Linux names it on x86 and on ARM.
_FEATURES = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
    "amx_int8", "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip


def cpu_name() -> str:
    """The processor as it calls itself, e.g. "AMD EPYC 9B14"."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else platform.processor() or platform.machine()


@cache
def cpu_features() -> tuple[str, ...]:
    """The processor's instructions that engines choose kernels by; none where it does not say."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    known = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    have = set(known[1].split()) if known else set()
    return tuple(name for name in _FEATURES if name in have)


def cores() -> int:
    """CPU cores this process may run on, which in a container is not all of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def granted(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """Cores' worth of time that this process gets: all of ``cores()``, or what its container may
    use of them (cgroups version 2)."""
    try:
        quota, period = limit.read_text().split()
        return min(float(cores()), int(quota) / int(period))
    except (OSError, ValueError):  # another system, or no limit ("max")
        return float(cores())


def taken_by_others(seconds: float) -> float:
    """Cores' worth of time that other processes take while this thread waits for ``seconds``.

    0 where the system does not tell (only Linux does).
    """
    try:
        before, own = _busy_ticks(), time.process_time()
        time.sleep(seconds)
        busy = (_busy_ticks() - before) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0
    others = busy - (time.process_time() - own)
    return min(max(0.0, others / seconds), float(os.cpu_count() or 1))


def _busy_ticks(stat: Path = Path("/proc/stat")) -> int:
    user, nice, system, _idle, _waiting, *others = map(int, stat.read_text().split()[1:9])
    return user + nice + system + sum(others)


def memory() -> int:
    """Bytes of this machine's memory, 16 GiB where it does not say."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return 16 << 30
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def version(distribution: str) -> str | None:
    """Of a package that is installed here by this name."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@cache
def gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs, asked of the driver itself; none where there is no driver."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()  # a driver without a usable device
    return tuple(_gpu_name(driver, number) for number in range(count.value))


@cache
def gpu_driver() -> str:
    """The version of the NVIDIA driver, as in "580.65.06"; empty where there is none."""
    try:
        library = ctypes.CDLL(_MANAGEMENT)
    except OSError:
        return ""
    version = ctypes.create_string_buffer(80)
    if library.nvmlInit_v2() or library.nvmlSystemGetDriverVersion(version, len(version)):
        return ""
    return version.value.decode()


def compute_capability() -> str:
    """Of the first GPU, as in "89" for 8.9; only where ``gpus()`` names one."""
    driver, digits = ctypes.CDLL(_DRIVER), ""
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0)
        digits += str(value.value)
    return digits


def gpu_bus() -> str:
    """Where the first GPU sits, as in "0000:3b:00.0"; only where ``gpus()`` names one."""
    driver, device = ctypes.CDLL(_DRIVER), ctypes.c_int()
    place = ctypes.create_string_buffer(32)
    driver.cuDeviceGet(ctypes.byref(device), 0)
    driver.cuDeviceGetPCIBusId(place, len(place), device)
    return place.value.decode()


def _gpu_name(driver: ctypes.CDLL, number: int) -> str:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(128)
    driver.cuDeviceGet(ctypes.byref(device), number)
    driver.cuDeviceGetName(name, len(name), device)
    return name.value.decode()
