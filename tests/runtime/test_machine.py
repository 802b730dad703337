"""What this machine is: its GPUs, as the driver tells, and its CPU."""

from __future__ import annotations

import ctypes
import os
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
