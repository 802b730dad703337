"""A bound on what loading a graph may take: what its input and its weights explain, and no more."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

from runtime import machine
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError

VARIABLE = "HEDGE_MEMORY_GIB"
# Generous: VGG16's edges in full size, in FP32, hold some 1 KiB a pixel at once.
_BASE, _PER_BYTE, _PER_PIXEL, _PER_CORE = 1 << 30, 8, 4096, 32 << 20
_SHARE = 0.75  # of the machine's memory
_FULL = "bad_alloc|[Ff]ailed to allocate|allocate memory"  # what libraries say
_turn = threading.RLock()


def allowance(bundle: Path, manifest: Manifest) -> int:
    """Bytes that loading the bundle and its first answer may take; HEDGE_MEMORY_GIB says others."""
    if given := os.environ.get(VARIABLE):
        if not re.fullmatch(r"\d{1,6}(\.\d+)?", given) or not float(given):
            raise HedgeError(f"{VARIABLE}={given}: give a number of GiB, such as 8")
        return int(float(given) * (1 << 30))
    weights = max((bundle / name).stat().st_size for name in manifest.graph_files)
    pixels = prod(manifest.output.shape)
    wanted = _BASE + _PER_BYTE * weights + _PER_PIXEL * pixels + _PER_CORE * machine.cores()
    return min(wanted, int(_SHARE * machine.memory()))


@contextmanager
def bounded(bundle: Path, manifest: Manifest) -> Iterator[None]:
    """Let this process take no more than the bundle's allowance in the meantime.

    A small file can describe any amount of work: a constant of 6 GiB takes three nodes. HedgeError
    where the system refuses more. Without effect where it cannot be told to (not Linux).
    """
    most = allowance(bundle, manifest)
    status = Path("/proc/self/status")
    if not status.exists():
        yield
        return
    import resource

    with _turn:
        found = re.search(r"VmData:\s+(\d+) kB", status.read_text())
        used = 1024 * int(found[1]) if found else 0
        before = resource.getrlimit(resource.RLIMIT_DATA)
        known = [limit for limit in (*before, used + most) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min(known), before[1]))
        try:
            yield
        except Exception as error:  # libraries have types of their own
            if not isinstance(error, MemoryError) and not re.search(_FULL, str(error)):
                raise
            raise HedgeError(
                f"{bundle}: its graph takes more than {most / (1 << 30):.1f} GiB, which its "
                f"weights and frames do not explain; if it is yours, set {VARIABLE} to more"
            ) from error
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, before)
