"""What every backend looks like from outside, and how one is chosen."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from runtime.errors import HedgeError
from runtime.manifest import Manifest

# name → (module, the library it needs, the extra that brings it); "auto" takes the first installed
BACKENDS: dict[str, tuple[str, str, str]] = {
    "openvino": ("runtime.backends.ov", "openvino", "openvino"),
    "onnxruntime": ("runtime.backends.ort", "onnxruntime", "runtime"),
}


class Engine(Protocol):
    """A loaded bundle. One caller at a time; ``close`` frees what the library holds."""

    manifest: Manifest
    backend: str

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 BGR → (N, H, W) uint8 labels, in the manifest's shapes."""

    def close(self) -> None:
        """Free the engine; calling it twice is harmless."""

    def __enter__(self) -> Engine: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def installed_backends() -> list[str]:
    """The backends whose library is installed here, fastest first."""
    return [name for name, (_, library, _) in BACKENDS.items() if find_spec(library)]


def load_engine(bundle: Path, backend: str = "auto", threads: int = 0) -> Engine:
    """Check the bundle's hashes, then load it.

    backend: a key of BACKENDS, or "auto"; threads: CPU threads, 0 leaves it to the library.
    Raises HedgeError for a damaged bundle, an unknown backend or a library that is not installed.
    """
    manifest = Manifest.load(bundle)
    if backend == "auto":
        backend = next(iter(installed_backends()), "onnxruntime")
    if backend not in BACKENDS:
        raise HedgeError(f"unknown backend {backend!r}; choose auto, {', '.join(BACKENDS)}")
    module, library, extra = BACKENDS[backend]
    if not find_spec(library):
        raise HedgeError(f"{library} is not installed: pip install 'hedge-seg[{extra}]'")
    return importlib.import_module(module).load(bundle, manifest, threads)


def check_batch(manifest: Manifest, batch: np.ndarray) -> None:
    """Raise ValueError unless ``batch`` is exactly what the graph was exported for."""
    if batch.shape != manifest.input.shape or batch.dtype != np.uint8:
        raise ValueError(
            f"the engine takes uint8 {manifest.input.shape}, got {batch.dtype} {batch.shape}"
        )
