"""What this machine is: its GPUs, as the driver tells, and its CPU."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest

from runtime import machine


class Driver:
    """An NVIDIA driver as ctypes sees it, with two GPUs or in a state of error."""

    def __init__(self, status: int) -> None:
        self.status = status

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = number
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: ctypes.c_int) -> int:
        name.value = f"GPU {device.value}".encode()
        return 0


@pytest.mark.parametrize(("status", "names"), [(0, ("GPU 0", "GPU 1")), (100, ()), (None, ())])
def test_gpus_are_asked_of_the_driver(
    status: int | None, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_driver(name: str) -> Driver:
        if status is None:
            raise OSError(f"{name}: cannot open shared object file")
        return Driver(status)

    monkeypatch.setattr(ctypes, "CDLL", open_driver)
    assert machine.gpus.__wrapped__() == names


def test_the_cpu_is_named() -> None:
    assert machine.cpu_name()
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)


def test_a_container_grants_less_than_the_machine_has(tmp_path: Path) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text("50000 100000\n")
    assert machine.granted(limit) == 0.5
    limit.write_text("max 100000\n")
    assert machine.granted(limit) == machine.granted(tmp_path / "none") == machine.cores()


def test_what_this_process_takes_is_not_counted_as_others() -> None:
    taken = machine.taken_by_others(0.05)
    assert 0 <= taken <= (os.cpu_count() or 1)
