"""Networks trained elsewhere: their own framework, the bare library and NNCF beside their bundles.

``python -m benchmarks.studies.foreign bundles --data camvid`` prints a Markdown table, a row for
each network that was exported in FP32 and INT8. Ratios are of medians of cells timed in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.__main__ import Benchmark, benchmark
from benchmarks.report.markdown import ruled
from benchmarks.results import Cell, Results
from benchmarks.run.plan import NNCF, Model, models
from runtime import cli

HEAD = (
    "network", "input", "as its framework: FP32 %", "FP16 %", "mIoU FP32 %", "INT8 loses",
    "INT8 ms", "FP32 is", "engine over bare loop",
)  # fmt: skip


@dataclass(frozen=True)
class Foreign:
    """Measure bundles of networks trained elsewhere beside NNCF and the bare library."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Bundles, or folders of them: of each network FP32, INT8 and, where there is one, FP16."""
    data: Path | None = None
    """Labelled data, as of hedge bench. NNCF is left out without it."""
    threads: int = 2
    """CPU threads of each engine."""
    budget: float = 5.0
    """Minutes to spend on each network."""
    timeout: float = 60.0
    """Seconds after which a cell that does not answer is given up; five times that to start."""
    frames: int = 32
    """Score on at most so many frames."""
    out: Path = Path("reports/foreign")
    """Folder of the reports, one for each network."""


def main(config: Foreign) -> None:
    """The command."""
    found = models(config.bundles)
    rows = [
        _row([one for one in found if one.key == key], config)
        for key in dict.fromkeys(model.key for model in found)
    ]
    cli.say(ruled([(*HEAD, *(f"{way} is" for way in NNCF)), *rows]))


def _row(alike: list[Model], config: Foreign) -> list[str]:
    by_precision = {model.manifest.precision: model for model in alike}
    chosen = [by_precision[name] for name in ("int8", "fp32") if name in by_precision]
    results = benchmark(
        Benchmark(
            tuple(model.path for model in chosen), config.data, backends=("openvino",),
            peers="nncf" if config.data else "first", threads=config.threads,
            budget=config.budget, timeout=config.timeout, frames=config.frames,
            out=config.out / alike[0].weights,
        )
    )  # fmt: skip
    cells = {_role(cell): cell for cell in results.cells}
    ours, full = cells.get(("bundle", "int8")), cells.get(("bundle", "fp32"))
    _, height, width, _ = alike[0].manifest.input.shape
    return [
        alike[0].weights,
        f"{height}×{width}",
        *(_agreement(by_precision.get(name)) for name in ("fp32", "fp16")),
        _miou(full),
        _lost(full, ours),
        f"{ours.timing.p50:.1f}" if ours and ours.timing else "–",
        _times(full, ours),
        _times(ours, next(_bare(results), None)),
        *(f"{_times(cells.get(('peer', way)), ours)}{_loses(full, cells, way)}" for way in NNCF),
    ]


def _role(cell: Cell) -> tuple[str, str]:
    return cell.kind, cell.precision if cell.kind == "bundle" else cell.way


def _bare(results: Results) -> Iterator[Cell]:
    """What our INT8 engine is held against: the library's model, its input ready, and our tail."""
    wanted = [cell for cell in results.cells if cell.kind == "bare" and cell.precision == "int8"]
    return (cell for cell in wanted if cell.way == "loop + tail")


def _agreement(model: Model | None) -> str:
    shares = model.manifest.measured.agreement.values() if model else ()
    return f"{100 * min(share or 0.0 for share in shares):.3f}" if shares else "–"


def _miou(cell: Cell | None) -> str:
    return f"{100 * cell.accuracy.miou:.2f}" if cell and cell.accuracy else "–"


def _lost(full: Cell | None, cell: Cell | None) -> str:
    if full is None or cell is None or full.accuracy is None or cell.accuracy is None:
        return "–"
    return f"{100 * (full.accuracy.miou - cell.accuracy.miou):.2f}"


def _loses(full: Cell | None, cells: dict[tuple[str, str], Cell], way: str) -> str:
    lost = _lost(full, cells.get(("peer", way)))
    return "" if lost == "–" else f" (loses {lost})"


def _times(cell: Cell | None, other: Cell | None) -> str:
    if cell is None or other is None or cell.timing is None or other.timing is None:
        return "–"
    return f"{cell.timing.p50 / other.timing.p50:.2f}×"


if __name__ == "__main__":
    cli.run(Foreign, main, "python -m benchmarks.studies.foreign")
