"""The curves of a run as a picture: ``results.png`` in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from train.loop.task import Epoch
from train.record.figure import save


def draw(history: Sequence[Epoch], path: Path) -> None:
    """Write loss by part, cross-entropy, mIoU, learning rate and IoU by class of a run as a PNG."""
    figure = Figure(figsize=(12, 7.5))
    figure.subplots_adjust(left=0.06, right=0.98, top=0.95, bottom=0.16, hspace=0.3)
    (loss, entropy, score), (rate, *_) = axes = figure.subplots(2, 3)
    _line(loss, history, [row.loss for row in history], "all")
    for name in dict.fromkeys(name for row in history for name in row.losses):
        _line(loss, history, [row.losses.get(name) for row in history], name)
    _line(entropy, history, [row.losses.get("cross-entropy") for row in history], "training")
    _line(entropy, history, [row.val_loss for row in history], "validation")
    _line(score, history, [_percent(row.miou) for row in history], "mIoU")
    _line(score, history, [_percent(row.pixel_accuracy) for row in history], "pixel accuracy")
    _line(rate, history, [row.lr for row in history], "")
    titles = "loss by part", "cross-entropy", "validation, %", "learning rate"
    for place, title in zip((loss, entropy, score, rate), titles, strict=True):
        place.set(title=title, xlabel="epoch")
        place.xaxis.set_major_locator(MaxNLocator(integer=True))
        place.grid(alpha=0.3)
        if place.get_legend_handles_labels()[0]:
            place.legend()
    scored = [row for row in history if row.miou is not None]
    grid = axes[1, 1].get_gridspec()
    for place in axes[1, 1:]:
        place.remove()
    if scored:
        best = max(scored, key=lambda row: row.miou or 0)
        score.plot(best.epoch, _percent(best.miou), "*", color="tab:orange", markersize=14)
        score.set_title(f"validation, %: {_percent(best.miou):.2f} in epoch {best.epoch}")
        _classes(figure.add_subplot(grid[1, 1:]), best)
    save(figure, path)


def _line(axes: Axes, history: Sequence[Epoch], values: Sequence[float | None], name: str) -> None:
    points = [(row.epoch, v) for row, v in zip(history, values, strict=True) if v is not None]
    if points:
        axes.plot(*zip(*points, strict=True), marker=".", label=name)


def _classes(axes: Axes, best: Epoch) -> None:
    names, ious = [], []
    for name, iou in best.iou.items():
        names.append(name if len(name) <= 24 else f"{name[:23]}…")
        ious.append(0.0 if iou is None else 100 * iou)
    places = np.arange(len(names))
    bars = axes.bar(places, ious, color="tab:blue")
    if len(names) <= 25:
        axes.bar_label(bars, [f"{iou:.0f}" for iou in ious], fontsize=8)
    axes.set_xticks(places, names, rotation=40, ha="right", fontsize=8, parse_math=False)
    axes.set(title=f"IoU by class, %, epoch {best.epoch}", ylim=(0, 105))


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
