"""What a search for the mIoU budget measured: the layers, the sets of layers, table and plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from export.verify import Budget, Drop
from runtime import files

TABLE, PLOT = "sensitivity.json", "sensitivity.png"
_NAMED = 3  # layers of a set that a table names, but of the chosen set
_BARS = 20  # layers in a picture


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
        from scipy.stats import spearmanr  # takes a second to load, which no other export needs

        return float(spearmanr(*columns).statistic)


def table(log: Log, budget: Budget, layers: int) -> Table:
    """Every measured set by the layers it keeps; ``layers``: how many could run in INT8."""
    table = Table(title=f"INT8 within {budget}", title_justify="left")
    table.add_column("in floating point", overflow="fold")
    lost, worst = f"mIoU lost{_limit(budget.miou)}", f"worst class{_limit(budget.worst)}"
    for column in (lost, worst, "ms", "× INT8"):
        table.add_column(column, justify="right")
    for step in log.steps:
        mark = " ←" if step == log.chosen else ""
        names = kept_names(step.kept, len(step.kept) if mark else _NAMED)
        table.add_row(Text(names), f"{step.drop.miou:.2f}",
                      Text(f"{step.drop.worst_class} {step.drop.worst:.2f}"),
                      f"{step.ms:.1f}", f"{step.ratio:.2f}{mark}")  # fmt: skip
    table.caption = f"{log.frames}, {log.backend}; of {layers} layers"
    if not log.layers:
        table.caption += "; INT8 holds the budget as it is, nothing was searched"
    return table


def kept_names(kept: Sequence[str], most: int) -> str:
    """The number of layers and the names of the first ones, at most so many."""
    if not kept:
        return "none"
    rest = f", … {len(kept) - most} more" if len(kept) > most else ""
    return f"{len(kept)}: {', '.join(kept[:most])}{rest}"


def _limit(points: float | None) -> str:
    return "" if points is None else f", at most {points:g}"


def plot(log: Log, budget: Budget, path: Path) -> None:
    """Draw what every measured set loses against its time, with both limits; and the layers that
    change most labels, by name, where each was looked at alone."""
    figure = Figure(figsize=(12 if log.layers else 7, 5), layout="constrained")
    axes, *beside = figure.subplots(1, 2 if log.layers else 1, squeeze=False)[0]
    for number, step in enumerate(log.steps):
        chosen = step == log.chosen
        size = 11 if chosen else 7
        for lost, marker, color in (
            (step.drop.miou, "o", "tab:blue"),
            (step.drop.worst, "^", "tab:orange"),
        ):
            axes.plot(step.ms, lost, marker, color=color, markersize=size,
                      markeredgecolor="black" if chosen else color)  # fmt: skip
            axes.annotate(f"{len(step.kept)}", (step.ms, lost), textcoords="offset points",
                          xytext=(7, 5))  # fmt: skip
        if number == 0:  # once, for the legend
            axes.plot([], [], "o", color="tab:blue", label="mIoU")
            axes.plot([], [], "^", color="tab:orange", label="worst class")
            axes.plot([], [], "s", color="white", markeredgecolor="black", label="chosen")
    for limit, color, name in (
        (budget.miou, "tab:blue", "mIoU"),
        (budget.worst, "tab:orange", "a class"),
    ):
        if limit is not None:
            axes.axhline(limit, linestyle="--", color=color)
            axes.annotate(f"at most {limit:g} of {name}", (1, limit), ha="right", va="bottom",
                          xycoords=("axes fraction", "data"), color=color)  # fmt: skip
    axes.set_xlabel(f"ms a frame ({log.backend})")
    axes.set_ylabel("points lost")
    axes.set_title("Sets of layers in floating point (their number)" if log.layers else
                   "INT8 holds the budget as it is")  # fmt: skip
    axes.legend(loc="best")
    axes.grid(alpha=0.3)
    for place in beside:
        _plot_layers(place, log)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _plot_layers(axes: Axes, log: Log) -> None:
    ranked = sorted(log.layers, key=lambda layer: -layer.changed)[:_BARS][::-1]
    kept = set(log.chosen.kept if log.chosen else ())
    colors = ["tab:red" if layer.name in kept else "tab:gray" for layer in ranked]
    axes.barh([layer.name for layer in ranked], [100 * la.changed for la in ranked], color=colors)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("% of the labels that change where this layer alone is in INT8")
    axes.set_title("The most sensitive layers; red ones stay in floating point")
    axes.grid(alpha=0.3, axis="x")
