"""What a reader must know of the machine, and how much memory is left on it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from runtime import machine as here

LIBRARIES = ("openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "torch", "numpy")
_MEMINFO = Path("/proc/meminfo")
# A container may have less than the machine: limit and use, of cgroups version 2 and 1.
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def machine() -> dict[str, Any]:
    """What a reader must know of the machine to compare numbers."""
    total = _meminfo().get("MemTotal")
    return {
        "cpu": here.cpu_name(),
        "cores": here.cores(),
        "gpus": here.gpus(),
        "memory_mb": None if total is None else round(total),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def free_mb() -> float:
    """Memory that can still be taken without swapping; infinite where the system does not say."""
    free = _meminfo().get("MemAvailable", float("inf"))
    for limit, use in _CGROUPS:
        try:
            free = min(free, (int(limit.read_text()) - int(use.read_text())) / 1e6)
        except (OSError, ValueError):  # another version, no limit ("max"), another system
            continue
    return free


def resident_mb(process: int, peak: bool = False) -> float | None:
    """Memory of a process, now or at its highest so far; None where the system does not say."""
    field = "VmHWM" if peak else "VmRSS"
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(found[0]) * 1024 / 1e6 if found else None


def busy_s() -> float | None:
    """Seconds that all CPUs together have been busy since the start; None where not told."""
    try:
        ticks = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _, _, interrupt, soft, steal = map(int, ticks)
    return (user + nice + system + interrupt + soft + steal) / os.sysconf("SC_CLK_TCK")


def used_s(process: int) -> float:
    """CPU seconds of a process and of those that it has waited for; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _meminfo() -> dict[str, float]:
    if not _MEMINFO.exists():
        return {}
    rows = (line.split() for line in _MEMINFO.read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 / 1e6 for row in rows}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
