"""Energy that a piece of work takes, where the machine tells: NVML, RAPL, tegrastats.

All count the whole chip or board, idle power and neighbours included: a busy machine makes a frame
look dear.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pynvml

from benchmarks.host.machine import first_gpu

POWERCAP = Path("/sys/class/powercap")
_TEGRA_RAILS = ("VDD_IN", "VIN_SYS_5V0", "POM_5V_IN")  # the whole module, by generation
_TEGRA_MS = 100  # between two readings


def joules(work: Callable[[], object], device: str) -> float | None:
    """Energy taken while ``work`` runs, on "cpu" or "cuda"; None where the machine does not tell.

    A Jetson's rail feeds both. Elsewhere "cuda" is the first GPU's board, and "cpu" the processor
    packages, whose counters many systems show to root only.
    """
    if tegrastats := shutil.which("tegrastats"):
        return _tegra(work, tegrastats)
    read = _nvml() if device == "cuda" else _rapl(POWERCAP)
    if read is None:
        return None
    before = read()
    work()
    return read() - before


def _rapl(folder: Path) -> Callable[[], float] | None:
    """Reads joules of all packages; None without readable counters."""
    packages = [
        path.parent for path in sorted(folder.glob("intel-rapl:*/energy_uj"))
        if path.parent.name.count(":") == 1
    ]  # fmt: skip
    try:
        limits = {p: int((p / "max_energy_range_uj").read_text()) for p in packages}
        last = {p: int((p / "energy_uj").read_text()) for p in packages}
    except (OSError, ValueError):
        return None
    turns = dict.fromkeys(packages, 0)

    def read() -> float:
        for package in packages:
            now = int((package / "energy_uj").read_text())
            turns[package] += now < last[package]  # the counter starts over at its limit
            last[package] = now
        return sum(last[p] + turns[p] * limits[p] for p in packages) / 1e6

    return read if packages else None


def _nvml() -> Callable[[], float] | None:
    """Reads joules of the first GPU; None without the driver or its counter (Volta and later)."""
    if (handle := first_gpu()) is None:
        return None
    try:
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


def _tegra(work: Callable[[], object], command: str) -> float | None:
    """Mean power of the module's supply while ``work`` runs, times its seconds."""
    process = subprocess.Popen(
        [command, "--interval", str(_TEGRA_MS)], stdout=subprocess.PIPE, text=True
    )
    start = time.perf_counter()
    try:
        work()
        seconds = time.perf_counter() - start
    finally:
        process.terminate()
        text, _ = process.communicate()
    watts = tegra_watts(text)
    return seconds * sum(watts) / len(watts) if watts else None


def tegra_watts(text: str) -> list[float]:
    """Of each line of tegrastats, the power of the whole module."""
    found = re.findall(rf"\b(?:{'|'.join(_TEGRA_RAILS)}) (\d+)(?:mW)?/", text)
    return [int(milliwatts) / 1e3 for milliwatts in found]
