"""What is freed stays with the process, so that the next step finds it mapped."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
