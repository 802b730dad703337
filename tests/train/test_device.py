"""Half precision by device; and what is freed stays with the process, for the next step."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

from runtime import machine
from train import device
from train.device import half_precision

KEPT = """
import resource
import sys
import numpy as np
from train.device import keep_freed_memory

def resident_mib():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 2**20

if sys.argv[1] == "keep":
    keep_freed_memory()
block = np.ones(64 << 20, np.uint8)
full = resident_mib()
del block
print(full - resident_mib())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
@pytest.mark.parametrize(("how", "returned"), [("keep", (-1, 1)), ("default", (60, 66))])
def test_freed_memory(how: str, returned: tuple[float, float]) -> None:
    """Of 64 MiB that are freed: MiB that go back to the kernel."""
    run = [sys.executable, "-c", KEPT, how]
    mib = float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    assert returned[0] <= mib <= returned[1]


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16),
     ((8, 7), torch.bfloat16), ((9, 0), torch.bfloat16), ((12, 0), torch.bfloat16)],
)  # fmt: skip
def test_bf16_is_for_gpus_that_compute_it(
    capability: tuple[int, int], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V100, T4 and RTX 20 emulate it, and PyTorch says that they support it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert half_precision(torch.device("cuda", 0)) == expected


@pytest.mark.parametrize(
    ("threads", "cores", "others", "said"),
    [
        (8, 2.0, 0.0, "8 OpenMP threads share 2 cores, and spin .* set OMP_NUM_THREADS=2"),
        (2, 2.0, 1.2, "other processes take 1.2 of 2 cores; .* OMP_NUM_THREADS=1 and OMP_WAIT"),
        (1, 2.0, 1.2, "other processes take 1.2 of 2 cores; stop them$"),
        (2, 2.0, 0.3, None),
    ],
)
def test_busy_cores_and_spinning_threads_are_told_with_the_remedy(
    threads: int, cores: float, others: float, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(machine, "granted", lambda: cores)
    monkeypatch.setattr(machine, "cores", lambda: round(cores))
    monkeypatch.setattr(machine, "taken_by_others", lambda seconds: others)
    found = device.slowed_by()
    assert found is None if said is None else re.search(said, found or "")
