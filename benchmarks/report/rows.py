"""The rows of a report: each cell with its names, its yardstick and what it loses against FP32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report.numbers import proper
from benchmarks.results import YARDSTICKS, Cell
from benchmarks.stats.bootstrap import Interval, ratio
from runtime.accuracy.metrics import points_lost

COLOURS = {"fp32": "fp32", "fp16": "fp16", "bf16": "fp16", "int8": "int8"}  # by arithmetic


@dataclass(frozen=True)
class Row:
    """A cell, and what follows from it in its run.

    model: whose weights, as short as can be; way: ``INT8 on OpenVINO``; size: ``512×1024`` where
    the run has several; name: all of these, no two rows alike; lines: the same in two. css: CSS
    classes of colour and kind. reference: what accuracy is lost against; lost: points of mIoU, and
    lost_by_class: of IoU, for classes that occur in both. yardstick: PyTorch on the same weights,
    frames and device; faster: times faster than it, None where that cannot be claimed.
    """

    cell: Cell
    model: str
    way: str
    size: str
    name: str
    lines: tuple[str, str]
    css: str
    reference: Cell | None
    lost: float | None
    lost_by_class: Mapping[str, float]
    yardstick: Cell | None
    faster: Interval | None

    @property
    def p50(self) -> float:
        """Milliseconds; only timed rows are asked."""
        assert self.cell.timing is not None, "only timed rows are compared"
        return self.cell.timing.p50

    @property
    def miou(self) -> float:
        """0..1; only scored rows are asked."""
        assert self.cell.accuracy is not None, "only scored rows are compared"
        return self.cell.accuracy.miou


def rows_of(cells: Sequence[Cell], claim: bool) -> list[Row]:
    """A row a cell, in their order; claim: whether a speed-up over PyTorch may be told."""
    variants = Counter(variant for variant, _ in {(c.variant, c.model) for c in cells})
    several = len({cell.input for cell in cells if any(cell.input)}) > 1

    def model(cell: Cell) -> str:
        if cell.variant and variants[cell.variant] == 1:
            return cell.variant
        return cell.model or cell.bundle or cell.variant or cell.name

    sizes = {c.name: shape(c) if several and any(c.input) else "" for c in cells}
    models = {c.name: ", ".join(filter(None, (model(c), sizes[c.name]))) for c in cells}
    names = {c.name: f"{model(c)} {_way(c)}{sizes[c.name] and f', {sizes[c.name]}'}" for c in cells}
    unique = len(set(names.values())) == len(cells)
    rows = []
    for cell in cells:
        reference, yardstick = _reference(cell, cells), _yardstick(cell, cells)
        lost = _losses(reference, cell)
        rows.append(Row(
            cell,
            model(cell),
            _way(cell),
            sizes[cell.name],
            names[cell.name] if unique else cell.name,
            (_way(cell) if unique else cell.name, models[cell.name]),
            _css(cell),
            reference,
            lost.pop("", None),
            lost,
            yardstick,
            _faster(yardstick, cell) if claim else None,
        ))  # fmt: skip
    return rows


def _faster(yardstick: Cell | None, cell: Cell) -> Interval | None:
    if yardstick is None or yardstick.timing is None or cell.timing is None:
        return None
    return ratio(yardstick.timing, cell.timing)


def _way(cell: Cell) -> str:
    """``INT8 on OpenVINO``, ``PyTorch FP32 channels_last``, ``bare OpenVINO INT8, loop``."""
    backend = proper(cell.backend)
    if cell.kind == "bundle":
        return f"{proper(cell.precision)} on {backend}" if cell.backend else cell.name
    if cell.kind == "bare":
        return f"bare {backend} {proper(cell.precision)}" + (f", {cell.way}" if cell.way else "")
    return " ".join(map(proper, (cell.way or cell.name).split()))


def shape(cell: Cell) -> str:
    """``2×360×480``, or only the size where it is one frame at a time."""
    batch, height, width = cell.input
    return f"{height}×{width}" if batch == 1 else f"{batch}×{height}×{width}"


def _css(cell: Cell) -> str:
    """The colour is the precision's; a peer's is that of what it computes in."""
    precision = cell.precision if cell.kind != "peer" else cell.computes or cell.precision
    return f"{COLOURS.get(precision, 'other')} {cell.kind}"


def _yardstick(cell: Cell, cells: Sequence[Cell]) -> Cell | None:
    """PyTorch on the same weights, frames and device, where it was timed."""
    same = [
        other
        for other in cells
        if other.kind == "peer" and other.way == YARDSTICKS[cell.device] and other.timing
        if (other.model, other.input[1:]) == (cell.model, cell.input[1:])
    ]
    return min(same, key=lambda other: other.input[0], default=None)


def _reference(cell: Cell, cells: Sequence[Cell]) -> Cell | None:
    """What accuracy is lost against: the yardstick, or FP32 of the same model where there is none;
    the same engine's FP32 goes before another's."""
    same = [
        other
        for other in cells
        if other.accuracy and other.model == cell.model and other.kind != "bare"
        if other.way in YARDSTICKS.values()
        or (other.kind == "bundle" and other.precision == "fp32")
    ]
    return min(same, key=lambda o: (o.kind == "bundle", o.backend != cell.backend), default=None)


def _losses(reference: Cell | None, cell: Cell) -> dict[str, float]:
    """Points of IoU lost by class; "": of mIoU."""
    if reference is None or reference.accuracy is None or cell.accuracy is None:
        return {}
    before, after = reference.accuracy, cell.accuracy
    pairs = {name: (before.iou.get(name), iou) for name, iou in after.iou.items()}
    lost = {
        name: 100 * (old - new)
        for name, (old, new) in pairs.items()
        if old is not None and new is not None
    }
    return lost | {"": points_lost(before.iou, after.iou)}
