"""What a search for the mIoU budget measured: the layers, the sets of layers, table and plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from matplotlib.figure import Figure
from rich.table import Table
from scipy.stats import spearmanr

from export.verify import Budget, Drop
from runtime import files

TABLE, PLOT = "sensitivity.json", "sensitivity.png"


@dataclass(frozen=True)
class Layer:
    """What one layer costs when it alone is in INT8.

    changed: share of labels that differ from the FP32 graph's, 0..1; drop: points of mIoU lost on
    the same frames.
    """

    name: str
    changed: float
    drop: float


@dataclass(frozen=True)
class Step:
    """A set of layers kept in floating point, as measured.

    ratio: median time of a frame, of plain INT8's in the same run; ms: that ratio of the first
    plain INT8 median, so that a machine whose speed drifts does not bend the plot.
    """

    kept: tuple[str, ...]
    drop: Drop
    ms: float
    ratio: float


@dataclass
class Log:
    """All that was measured so far; ``key`` says for which model, scales, engine and frames."""

    key: str
    backend: str
    frames: str
    int8_ms: float | None = None
    layers: list[Layer] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    chosen: Step | None = None

    def save(self, path: Path) -> None:
        """Write as JSON, atomically, with the rank correlation of proxy and mIoU beside it."""
        content = msgspec.to_builtins(self) | {"rank_correlation": self.rank_correlation()}
        files.write_bytes(path, msgspec.json.format(msgspec.json.encode(content)))

    def rank_correlation(self) -> float | None:
        """Spearman's ρ between the layers' ``changed`` and ``drop``; None where one is constant."""
        columns = [la.changed for la in self.layers], [la.drop for la in self.layers]
        if any(len(set(column)) < 2 for column in columns):
            return None
        return float(spearmanr(*columns).statistic)


def table(log: Log, budget: Budget, layers: int) -> Table:
    """Every measured set; ``layers``: how many could run in INT8."""
    table = Table(title=f"INT8 within {budget}", title_justify="left")
    for column in ("in floating point", "mIoU lost", "worst class", "ms", "× INT8"):
        table.add_column(column, justify="right")
    for step in log.steps:
        mark = " ←" if step == log.chosen else ""
        worst = f"{step.drop.worst_class} {step.drop.worst:.2f}"
        table.add_row(str(len(step.kept)), f"{step.drop.miou:.2f}", worst,
                      f"{step.ms:.1f}", f"{step.ratio:.2f}{mark}")  # fmt: skip
    table.caption = f"{log.frames}, {log.backend}; of {layers} layers"
    return table


def plot(log: Log, budget: Budget, path: Path) -> None:
    """Draw every measured set of layers: points of mIoU lost against time."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for step in log.steps:
        chosen = step == log.chosen
        axes.plot(step.ms, step.drop.miou, "o", color="tab:orange" if chosen else "tab:blue",
                  markersize=11 if chosen else 7)  # fmt: skip
        axes.annotate(f"{len(step.kept)}", (step.ms, step.drop.miou),
                      textcoords="offset points", xytext=(7, 5))  # fmt: skip
    if budget.miou is not None:
        axes.axhline(budget.miou, linestyle="--", color="gray")
        axes.annotate(f"budget {budget.miou:g}", (1, budget.miou), ha="right", va="bottom",
                      xycoords=("axes fraction", "data"), color="gray")  # fmt: skip
    axes.set_xlabel(f"ms a frame ({log.backend})")
    axes.set_ylabel("points of mIoU lost")
    axes.set_title("Layers kept in floating point (numbers), what they save and what they cost")
    axes.grid(alpha=0.3)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
