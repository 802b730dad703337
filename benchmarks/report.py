"""What was measured, as one typed list of rows, and its forms: JSON, Markdown, a terminal table."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import msgspec
from rich.table import Table

from runtime import machine as here
from runtime.manifest import Manifest


@dataclass(frozen=True)
class Measurement:
    """One bundle in one engine: latency in milliseconds a frame, mIoU as its manifest states it.

    ratio: median latency over that of the first row, measured in the same rounds.
    """

    bundle: str
    variant: str
    precision: str
    backend: str
    input: str
    p50: float
    p95: float
    p99: float
    fps: float
    ratio: float
    miou: float | None
    miou_on: str
    megabytes: float


@dataclass(frozen=True)
class Report:
    """A run of the benchmark."""

    machine: dict[str, Any]
    rounds: int
    threads: int
    measurements: Sequence[Measurement]

    def to_json(self) -> bytes:
        """Indented JSON, one object per row."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    def to_markdown(self) -> str:
        """A table for a pull request, with the machine named below it."""
        head = "| " + " | ".join(_COLUMNS) + " |\n|" + "---|" * len(_COLUMNS)
        rows = "\n".join("| " + " | ".join(_cells(row)) + " |" for row in self.measurements)
        return f"{head}\n{rows}\n\n{self.footer()}\n"

    def to_table(self) -> Table:
        """The same for a terminal."""
        table = Table(caption=self.footer(), caption_justify="left")
        for column in _COLUMNS:
            text = column in _COLUMNS[:3]
            table.add_column(column, justify="left" if text else "right", overflow="fold")
        for row in self.measurements:
            table.add_row(*_cells(row))
        return table

    def footer(self) -> str:
        """Where this was measured."""
        machine = self.machine
        versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
        threads = self.threads or "library's choice of"
        return (
            f"{machine['cpu']}, {machine['cores']} cores, {threads} threads; {versions}; "
            f"medians of {self.rounds} interleaved rounds; mIoU as exported: "
            + ", ".join(sorted({row.miou_on or "not measured" for row in self.measurements}))
        )


_COLUMNS = (
    "bundle", "engine", "input", "p50 ms", "p95 ms", "p99 ms", "fps", "× first", "mIoU %", "MB",
)  # fmt: skip


def _cells(row: Measurement) -> tuple[str, ...]:
    miou = "–" if row.miou is None else f"{100 * row.miou:.2f}"
    times = (f"{value:.1f}" for value in (row.p50, row.p95, row.p99, row.fps))
    return (row.bundle, row.backend, row.input, *times, f"{row.ratio:.2f}", miou,
            f"{row.megabytes:.1f}")  # fmt: skip


def accuracy(manifest: Manifest, backend: str) -> tuple[float | None, str]:
    """The mIoU that export measured for this engine (0..1), and on what; None where it did not."""
    measured = manifest.measured
    miou = measured.get("miou_by_backend", {}).get(backend)
    if miou is None:
        return None, ""
    return miou, f"{measured['images']} frames of {measured['data']}"


def machine() -> dict[str, Any]:
    """What a reader must know of the machine to compare numbers."""
    libraries = ("openvino", "onnxruntime", "numpy")
    return {
        "cpu": here.cpu_name(),
        "cores": here.cores(),
        "gpus": here.gpus(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in libraries if _installed(name)},
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
