"""The pictures of report.html: what is drawn, where, and every text beside it; nothing of HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import plot_layout
from benchmarks.report.names import Names, number, percent, proper, reference, signed, way
from benchmarks.report.plot_layout import Plot, Point
from benchmarks.report.sentences import class_losses
from benchmarks.results import Cell, Results, Stages

COLOURS = {"fp32": "fp32", "fp16": "fp16", "bf16": "fp16", "int8": "int8"}  # by arithmetic
WIDTHS = ((1160, 500), (358, 400))  # of a plot on a desktop and on a phone, and its height
STAGES = ("decode", "resize", "infer", "overlay", "encode")
LAYERS = 8  # that are named of a search

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Wide:
    """A plot at the width of a desktop and of a phone."""

    desktop: Plot
    phone: Plot


def looks(cell: Cell) -> str:
    """Classes of the style: colour of the precision (a peer's is what it computes in), kind."""
    precision = cell.precision if cell.kind != "peer" else cell.computes or cell.precision
    return f"{COLOURS.get(precision, 'other')} {cell.kind}"


def heading(names: Names, cell: Cell, about: str = "") -> dict[str, Any]:
    """What a row of a cell begins with; about: said beside the model."""
    first, second = names.lines(cell)
    return {"way": first, "model": second, "about": about, "looks": looks(cell)}


def pareto(results: Results) -> Wide | None:
    """mIoU in percent against milliseconds; peers are hollow."""
    cells = _placed(results)
    places = [(c.timing.p50, 100 * c.accuracy.miou) for c in cells if c.timing and c.accuracy]
    names = Names(results)
    points = [
        Point(
            x,
            y,
            label=names.full(cell).replace(" on ", " ") if cell.kind == "bundle" else way(cell),
            title=f"{names.full(cell)}: {number(x)} ms, {y:.2f} % mIoU",
            shape=_shape(cell.backend),
            looks=looks(cell),
            front=on_front,
        )
        for cell, (x, y), on_front in zip(cells, places, plot_layout.pareto(places), strict=True)
    ]
    return _wide(points, "ms a frame, median", "mIoU %")


def legend(results: Results) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(class, name) of the colours and (path, name) of the shapes in the Pareto plot."""
    cells = _placed(results)
    found = {c.precision if c.kind == "bundle" else c.computes for c in cells}
    named: dict[str, list[str]] = {}
    for precision, colour in COLOURS.items():
        if precision in found:
            named.setdefault(colour, []).append(proper(precision))
    shapes = {
        proper(backend): _shape(backend) for backend in dict.fromkeys(c.backend for c in cells)
    }
    return (
        [(colour, ", ".join(precisions)) for colour, precisions in named.items()],
        [(path, name) for name, path in shapes.items()],
    )


def _placed(results: Results) -> list[Cell]:
    return [c for c in results.cells if c.kind != "bare" and c.timing and c.accuracy]


def _shape(backend: str) -> str:
    return plot_layout.SHAPES.get(backend, plot_layout.SHAPES[""])


def _wide(points: Sequence[Point], x_title: str, y_title: str, scale: float = 1.0) -> Wide | None:
    desktop, phone = (
        plot_layout.scatter(points, width, round(scale * height), x_title, y_title)
        for width, height in WIDTHS
    )
    return Wide(desktop, phone) if desktop and phone else None


def searches(results: Results) -> Iterator[Row]:
    """The sensitivity of each INT8 bundle that was searched, and its most sensitive layers."""
    for bundle, log in results.sensitivity.items():
        layers = sorted(log.get("layers") or [], key=lambda layer: -layer["drop"])
        rank, chosen = log.get("rank_correlation"), log.get("chosen")
        yield {
            "bundle": bundle,
            "plot": _sensitivity(log),
            "backend": proper(log.get("backend", "")),
            "frames": log.get("frames", ""),
            "chosen": len(chosen["kept"]) if chosen else None,
            "rank": None if rank is None else f"{rank:.2f}",
            "layers": [
                (one["name"], percent(one["changed"], 2), f"{one['drop']:.2f}")
                for one in layers[:LAYERS]
            ],
            "count": len(layers),
        }


def _sensitivity(log: Mapping[str, Any]) -> Wide | None:
    """Points of mIoU lost against milliseconds for each set of layers that was measured."""
    chosen = log.get("chosen")
    points = [
        Point(
            step["ms"],
            step["drop"]["miou"],
            label=str(len(step["kept"])),
            title=f"{len(step['kept'])} layers in floating point: {number(step['ms'])} ms, "
            f"{step['drop']['miou']:.2f} points of mIoU lost, {step['drop']['worst_class']} "
            f"{step['drop']['worst']:.2f}",
            looks="int8 chosen" if step == chosen else "int8 peer",
        )
        for step in log.get("steps") or []
    ]
    return _wide(points, "ms a frame", "points of mIoU lost", 0.7)


def distributions(results: Results) -> Row | None:
    """A violin for each bundle and peer, in times of its own median; places in percent."""
    cells = [
        c for c in results.cells if c.kind != "bare" and c.timing and len(c.timing.samples) > 1
    ]
    timings = [cell.timing for cell in cells if cell.timing]
    if not timings:
        return None
    low, high = plot_layout.spread(timings)
    names = Names(results)

    def at(times: float) -> float | None:
        return round(100 * (times - low) / (high - low), 2) if times <= high else None

    rows = []
    for cell, timing in zip(cells, timings, strict=True):
        first, last = at(max(low, timing.low / timing.p50)), at(min(high, timing.high / timing.p50))
        assert first is not None and last is not None, "clipped to the drawing"
        rows.append(heading(names, cell) | {
            "path": plot_layout.violin(timing, low, high),
            "low": first,
            "wide": round(last - first, 2),
            "strokes": [at(timing.p95 / timing.p50), at(timing.p99 / timing.p50)],
            "p50_ms": number(timing.p50),
            "p99_ms": number(timing.p99),
            "count": len(timing.samples),
        })  # fmt: skip
    ticks = [(at(tick), f"{tick:g}×") for tick in plot_layout.round_values(low, high)]
    return {"rows": rows, "ticks": ticks, "one": at(1)}


def classes(results: Results) -> list[Row]:
    """IoU by class in FP32 and INT8, for the fastest INT8 bundle of each model."""
    int8 = [c for c in results.cells if c.kind == "bundle" and c.precision == "int8" and c.timing]
    fastest: dict[str, Cell] = {}
    for cell in sorted(int8, key=lambda c: c.timing.p50 if c.timing else 0.0):
        if cell.accuracy and reference(results, cell):
            fastest.setdefault(cell.model, cell)
    models = dict.fromkeys(cell.model for cell in results.cells)
    return [_classes_of(results, fastest[model]) for model in models if model in fastest]


def _classes_of(results: Results, cell: Cell) -> Row:
    base = reference(results, cell)
    assert base and base.accuracy and cell.accuracy, "only scored cells are compared"
    losses = class_losses(base, cell)
    before, after = base.accuracy, cell.accuracy
    rows = [
        {
            "name": name,
            "before": f"{100 * (before.iou[name] or 0):.1f}",
            "after": f"{100 * (after.iou[name] or 0):.1f}",
            "change": signed(-lost),
            "bad": lost > 1,
        }
        for name, lost in losses.items()
    ]
    return {
        "name": Names(results).lines(cell)[1],
        "base": way(base),
        "cell": way(cell),
        "rows": rows,
        "absent": [name for name in after.iou if name not in losses],
        "miou": (f"{100 * before.miou:.1f}", f"{100 * after.miou:.1f}",
                 signed(100 * (after.miou - before.miou))),
    }  # fmt: skip


def stages(results: Results) -> Row | None:
    """Bars of the video pipeline's stages, as wide as their milliseconds."""
    if not results.stages:
        return None
    longest = max(map(_total, results.stages)) or 1.0
    return {"stages": STAGES, "rows": [_stage(results, one, longest) for one in results.stages]}


def _stage(results: Results, one: Stages, longest: float) -> Row:
    cell = results.cell(one.cell)
    first, second = Names(results).lines(cell) if cell else (one.cell, "")
    return {
        "way": first,
        "model": f"{second}, {one.video}" if second else one.video,
        "parts": [
            {"stage": stage, "ms": number(ms), "wide": round(100 * ms / longest, 2)}
            for stage in STAGES
            for ms in [getattr(one, stage)]
        ],
        "total": number(_total(one)),
        "fps": number(one.fps),
        "fps_engine": number(one.fps_engine),
        "share": percent(one.fps / one.fps_engine, 0) if one.fps_engine else None,
    }


def _total(one: Stages) -> float:
    return sum(getattr(one, stage) for stage in STAGES)
