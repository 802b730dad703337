"""Engines that TensorRT built into a bundle: where they lie, and the proof that they are whole.

Beside each engine stands a sidecar with its sha256 and all that it was built from. It is checked
before any parser sees a byte; nothing here needs the library itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from runtime import files
from runtime.bundle.manifest import ENGINES
from runtime.errors import HedgeError

SUFFIX = ".engine"


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    workspace_mib: scratch memory that a kernel may ask for; level: 0 (built fast) to 5 (runs
    fast), None for the library's default; max_batch: take any number of frames from 1 to this, None
    for the bundle's own number and no other.
    """

    workspace_mib: int = 2048
    level: int | None = None
    max_batch: int | None = None


@dataclass(frozen=True)
class Sidecar:
    """What stands beside an engine: its own sha256, and everything that it was built from.

    tf32: whether the library was free to compute FP32 in TF32, as in sidecars that do not say.
    """

    engine: str
    graph: str
    library: str
    version: str
    device: str
    options: BuildOptions
    tf32: bool = True

    @classmethod
    def load(cls, path: Path) -> Sidecar:
        """Read the sidecar of the engine at ``path``; HedgeError if there is no readable one."""
        try:
            return msgspec.json.decode(_beside(path).read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            raise HedgeError(
                f"{path}: engine without a readable sidecar ({error}); {fix(path)}"
            ) from error

    def read(self, path: Path) -> bytes:
        """The bytes of the engine at ``path``; HedgeError if they are not those described here."""
        plan = path.read_bytes()
        if files.sha256_of(plan) != self.engine:
            raise HedgeError(
                f"{path}: sha256 differs from its sidecar (damaged or replaced); {fix(path)}"
            )
        return plan


def place(bundle: Path, library: str, version: str, device: str) -> Path:
    """Where a bundle's engine for this library and device lies, or will."""
    return bundle / ENGINES / f"{library}-{version}-{device}{SUFFIX}"


def save(path: Path, plan: bytes, sidecar: Sidecar) -> None:
    """Write an engine and its sidecar, each atomically."""
    # The sidecar goes first: an engine without it would be refused, one beside an old one too.
    files.write_bytes(_beside(path), msgspec.json.format(msgspec.json.encode(sidecar)))
    files.write_bytes(path, plan)


def built(bundle: Path, library: str) -> list[Path]:
    """The engines of one library in a bundle, the one built last first."""
    found = (bundle / ENGINES).glob(f"{library}-*{SUFFIX}")
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def fix(path: Path) -> str:
    """What to do about an engine that is refused."""
    return f"delete {path.name} and it is built anew"


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
