"""``python -m benchmarks.speed``: times faster than PyTorch; what SE, HED and our code cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from rich.table import Table

from benchmarks.cells.bare_library import loop
from benchmarks.host.machine import machine
from benchmarks.stats.bootstrap import ratio
from benchmarks.stats.interval import timing
from benchmarks.studies.interleaved import interleaved
from benchmarks.studies.untrained import YARDSTICK, Case, bundle, torch_engines
from export.config import PRECISIONS, Precision
from runtime import cli, files
from runtime.backends.base import Engine
from runtime.backends.registry import BACKENDS, installed_backends, load_engine
from runtime.bundle.classes import CITYSCAPES
from runtime.bundle.manifest import BUNDLES
from runtime.errors import HedgeError
from runtime.latency import Latency

SLOW = {("onnxruntime", "fp16")}  # emulated on a CPU: timed only where asked for
FRAMES = 4  # distinct ones, fed in turn
FINER = 4  # times the rounds, for what is told in percents of a frame

Line = tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """Time models in every CPU engine against eager PyTorch; tell what SE, HED and our code cost.

    The models have random weights, on which speed does not depend, 19 classes, output stride 16
    and the light HED. They are exported once and kept in --out. The engines of a model take turns,
    so that a machine whose speed drifts treats them alike: trust the ratios more than the
    milliseconds.

    Example: python -m benchmarks.speed --cases mobilenet_v2:256x512 --precisions fp32 int8
    """

    cases: tuple[str, ...] = (
        "resnet50:256x512", "resnet50:512x1024",
        "mobilenet_v2:256x512", "mobilenet_v2:512x1024",
    )  # fmt: skip
    """What to time: BACKBONE:HEIGHTxWIDTH (dlse_hed), or BACKBONE:VARIANT:HEIGHTxWIDTH."""
    precisions: tuple[Precision, ...] = PRECISIONS
    """Bundles to time; what things cost is measured in the last."""
    slow: bool = False
    """Also FP16 in ONNX Runtime, which computes it in FP32 on a CPU, with casts around."""
    rounds: int = 20
    """How often each engine is timed; four times as often for what things cost."""
    threads: int = 2
    """CPU threads of PyTorch and of each engine."""
    out: Path = BUNDLES / "speed"
    """Folder of the bundles, and of report.json and report.md."""
    force: bool = False
    """Export again, as after a change of the models."""

    def __post_init__(self) -> None:
        if not self.cases or not self.precisions:
            raise HedgeError("--cases and --precisions: name at least one")
        if min(self.rounds, self.threads) < 1:
            raise HedgeError("--rounds and --threads are at least 1")


@dataclass(frozen=True)
class Row:
    """An engine's milliseconds a frame; speedup: the yardstick's median over its own."""

    model: str
    engine: str
    p50: float
    p95: float
    fps: float
    speedup: float

    def cells(self) -> Line:
        """In the order of the table's columns."""
        times = (f"{value:.1f}" for value in (self.p50, self.p95, self.fps))
        return (self.model, self.engine, *times, f"{self.speedup:.2f}")


@dataclass(frozen=True)
class Cost:
    """What a part of a frame takes: median milliseconds with and without it.

    share: of the frame with it, with the 95 % interval low..high.
    """

    part: str
    model: str
    engine: str
    with_ms: float
    without_ms: float
    share: float
    low: float
    high: float

    @classmethod
    def between(cls, part: str, model: str, engine: str, whole: Latency, rest: Latency) -> Cost:
        """Of two that were timed in the same rounds."""
        found, other = (timing(tuple(latency.samples)) for latency in (whole, rest))
        left = ratio(other, found)
        shares = (1 - left.value, 1 - left.high, 1 - left.low)
        return cls(part, model, engine, found.p50, other.p50, *shares)

    def cells(self) -> Line:
        """In the order of the table's columns."""
        times = (f"{value:.2f}" for value in (self.with_ms, self.without_ms))
        shares = (f"{100 * value:.1f}" for value in (self.share, self.low, self.high))
        return (self.part, self.model, self.engine, *times, *shares)


@dataclass(frozen=True)
class Report:
    """A run; ``machine`` is ``benchmarks.host.machine.machine`` with torch's own version."""

    machine: dict[str, Any]
    rounds: int
    threads: int
    rows: Sequence[Row]
    costs: Sequence[Cost]
    weights: str = "random"
    yardstick: str = YARDSTICK

    def tables(self) -> list[list[Line]]:
        """Speeds, then costs; the first line of each names the columns."""
        return [
            [
                ("model", "engine", "p50 ms", "p95 ms", "fps", "× PyTorch"),
                *map(Row.cells, self.rows),
            ],
            [
                (
                    "cost of",
                    "model",
                    "engine",
                    "with, ms",
                    "without, ms",
                    "% of the frame",
                    "at least",
                    "at most",
                ),
                *map(Cost.cells, self.costs),
            ],
        ]

    def to_markdown(self) -> str:
        """Both tables, with the machine named below."""
        return "\n".join(_markdown(table) for table in self.tables()) + f"\n{self.footer()}\n"

    def footer(self) -> str:
        """Where and how this was measured."""
        versions = ", ".join(f"{k} {v}" for k, v in self.machine["versions"].items())
        return (
            f"{self.machine['cpu']}, {self.machine['cores']} cores, {self.threads} threads; "
            f"{versions}; medians of {self.rounds} interleaved rounds; random weights, "
            f"{len(CITYSCAPES)} classes; × PyTorch: {YARDSTICK} is 1"
        )


def main(config: Speed) -> None:
    """The command."""
    cases = [Case.parse(text) for text in config.cases]
    torch.set_num_threads(config.threads)
    rows = [row for case in cases for row in speeds(case, config)]
    sizes = dict.fromkeys((case.backbone, case.size) for case in cases)
    found = [costs(backbone, size, config) for backbone, size in sizes]
    here = machine()
    here["versions"] |= {"torch": str(torch.__version__)}
    report = Report(here, config.rounds, config.threads, rows, list(chain.from_iterable(found)))
    for lines in report.tables():
        cli.out.print(_table(lines))
    cli.say(report.footer())
    content = msgspec.json.format(msgspec.json.encode(report)) + b"\n"
    files.write_bytes(config.out / "report.json", content)
    files.write_bytes(config.out / "report.md", report.to_markdown().encode())
    cli.say(f"→ {config.out}/report.json, report.md")


def speeds(case: Case, config: Speed) -> list[Row]:
    """A model in PyTorch and in every engine, precision by precision."""
    folders = {
        precision: bundle(case, precision, config.out, config.force)
        for precision in config.precisions
    }
    with ExitStack() as stack:
        engines = torch_engines(case, config.out)
        for precision, folder in folders.items():
            for backend in _backends(precision, config):
                engine = stack.enter_context(_load(folder, backend, config))
                engines[f"{backend} {precision}"] = engine
        times = _time(case, engines, config)
    yardstick = _p50(times[YARDSTICK])
    return [_row(case, name, latency, yardstick) for name, latency in times.items()]


def _row(case: Case, engine: str, latency: Latency, yardstick: float) -> Row:
    p50, p95, _ = (value or 0 for value in latency.percentiles().values())
    return Row(str(case), engine, p50, p95, fps=1e3 / p50, speedup=yardstick / p50)


def costs(backbone: str, size: tuple[int, int], config: Speed) -> list[Cost]:
    """SE: dlse against vanilla; HED: dlse_hed against dlse; our code: dlse_hed in our engine
    against a bare loop over the library that gives the same labels
    (``benchmarks.cells.bare_library``)."""
    precision = config.precisions[-1]
    plain, gated, edged = (Case(backbone, name, size) for name in ("vanilla", "dlse", "dlse_hed"))
    folders = {
        case: bundle(case, precision, config.out, config.force) for case in (plain, gated, edged)
    }
    found = []
    for backend in _backends(precision, config):
        with ExitStack() as stack:
            engines: dict[str, Engine] = {
                str(case): stack.enter_context(_load(folder, backend, config))
                for case, folder in folders.items()
            }
            engines["bare"] = loop(folders[edged], backend, "loop + tail", config.threads)
            times = _time(edged, engines, config, FINER)
        for part, whole, rest in (
            ("SE", str(gated), str(plain)),
            ("HED", str(edged), str(gated)),
            ("our code", str(edged), "bare"),
        ):
            engine = f"{backend} {precision}"
            found.append(Cost.between(part, whole, engine, times[whole], times[rest]))
    return found


def _load(folder: Path, backend: str, config: Speed) -> Engine:
    with cli.err.status(f"loading {folder.name} in {backend}"):
        return load_engine(folder, backend, config.threads)


def _time(
    case: Case, engines: Mapping[str, Engine], config: Speed, finer: int = 1
) -> dict[str, Latency]:
    shape = (FRAMES, *case.size, 3)
    frames = list(np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8))
    rounds = cli.track(range(config.rounds * finer), f"timing {case}")
    return interleaved(engines, frames, rounds)


def _backends(precision: Precision, config: Speed) -> list[str]:
    """Engines on the CPU, as PyTorch is here, without those known to be slow."""
    found = [name for name in installed_backends() if BACKENDS[name].device == "cpu"]
    return [name for name in found if config.slow or (name, precision) not in SLOW]


def _p50(times: Latency) -> float:
    p50 = times.percentiles()["p50"]
    assert p50 is not None, "there is at least one round"
    return p50


def _markdown(lines: list[Line]) -> str:
    ruled = [lines[0], ("---",) * len(lines[0]), *lines[1:]]
    return "".join("| " + " | ".join(line) + " |\n" for line in ruled)


def _table(lines: list[Line]) -> Table:
    table = Table()
    for column in lines[0]:
        text = column in ("cost of", "model", "engine")
        table.add_column(column, justify="left" if text else "right", overflow="fold")
    for line in lines[1:]:
        table.add_row(*line)
    return table


if __name__ == "__main__":
    cli.run(Speed, main, "python -m benchmarks.speed")
