"""What each section of report.html shows: rows and plots, every text ready, nothing of HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import plots
from benchmarks.columns import known
from benchmarks.noise import ratio
from benchmarks.plots import Plot, Point
from benchmarks.results import Cell, Results, Stages
from benchmarks.sentences import NOISE, class_losses
from benchmarks.wording import (
    Names,
    number,
    overheads,
    percent,
    proper,
    reference,
    shape,
    way,
)

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
WIDTHS = ((1040, 480), (358, 400))  # of a plot on a desktop and on a phone, and its height
BARE = {
    "loop + tail": "the library and our label tail: the same answer",
    "loop": "the library alone: ends with scores, so does less",
    "whole graph": "labels made inside the library: the same answer",
}
STAGES = ("decode", "resize", "infer", "overlay", "encode")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Wide:
    """A plot at the width of a desktop and of a phone."""

    desktop: Plot
    phone: Plot


def precision(cell: Cell) -> str:
    """Whose colour a cell has: of a bundle its own, of a peer what it computes in."""
    found = cell.precision if cell.kind != "peer" else cell.computes or cell.precision
    return found if found in PRECISIONS else "other"


def pareto(results: Results) -> Wide | None:
    """mIoU in percent against milliseconds; peers are hollow."""
    cells = [c for c in results.cells if c.kind != "bare" and c.timing and c.accuracy]
    places = [(c.timing.p50, 100 * c.accuracy.miou) for c in cells if c.timing and c.accuracy]
    names = Names(results)
    points = [
        Point(
            x, y,
            label=names.full(cell).replace(" on ", " ") if cell.kind == "bundle" else way(cell),
            title=f"{names.full(cell)}: {number(x)} ms, {y:.2f} % mIoU",
            shape=plots.SHAPES.get(cell.backend, plots.SHAPES[""]),
            looks=precision(cell) + (" hollow" if cell.kind == "peer" else ""),
            front=on_front,
        )
        for cell, (x, y), on_front in zip(cells, places, plots.pareto(places), strict=True)
    ]  # fmt: skip
    return _wide(points, "ms a frame, median", "mIoU %")


def legend(results: Results) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(class, name) of the colours and (path, name) of the shapes in the Pareto plot."""
    cells = [c for c in results.cells if c.kind != "bare" and c.timing and c.accuracy]
    found = {precision(cell) for cell in cells}
    colours = [(one, proper(one)) for one in PRECISIONS if one in found]
    backends = dict.fromkeys(cell.backend for cell in cells)
    shapes = {proper(b): plots.SHAPES.get(b, plots.SHAPES[""]) for b in backends}
    return colours, [(path, name) for name, path in shapes.items()]


def sensitivity(log: Mapping[str, Any]) -> Wide | None:
    """Points of mIoU lost against milliseconds for each set of layers that was measured."""
    steps = log.get("steps") or []
    chosen = log.get("chosen")
    points = [
        Point(
            step["ms"], step["drop"]["miou"], label=str(len(step["kept"])),
            title=f"{len(step['kept'])} layers in floating point: {number(step['ms'])} ms, "
            f"{step['drop']['miou']:.2f} points of mIoU lost, {step['drop']['worst_class']} "
            f"{step['drop']['worst']:.2f}",
            looks="int8 chosen" if step == chosen else "int8 hollow",
        )
        for step in steps
    ]  # fmt: skip
    return _wide(points, "ms a frame", "points of mIoU lost", 0.7)


def _wide(points: Sequence[Point], x_title: str, y_title: str, scale: float = 1.0) -> Wide | None:
    laid = [
        plots.scatter(points, width, round(scale * height), x_title, y_title)
        for width, height in WIDTHS
    ]
    return Wide(laid[0], laid[1]) if laid[0] and laid[1] else None


def table(results: Results) -> Row:
    """The big table: heads, and rows of texts with notes below and values to sort by."""
    columns, names = known(results), Names(results)
    rows = [
        {
            "name": names.model(cell),
            "way": way(cell),
            "about": _about(cell),
            "looks": f"{precision(cell)} {cell.kind}",
            "error": cell.error,
            "cells": [
                {"text": c.text(cell), "note": c.note(cell), "value": c.value(cell)}
                for c in columns
            ],
        }
        for cell in results.cells
        if cell.kind != "bare"
    ]
    return {"heads": [(column.head, column.about) for column in columns], "rows": rows}


def _about(cell: Cell) -> str:
    """Size, and the arithmetic where it is not the precision's own."""
    other = cell.computes and cell.computes != cell.precision and cell.kind == "bundle"
    return shape(cell) * any(cell.input) + (f", computes {cell.computes}" if other else "")


def overhead(results: Results) -> list[Row]:
    """Our engine beside the bare library, in all ways that it was timed."""
    names = Names(results)
    rows: list[Row] = []
    for cell, bare in overheads(results):
        assert cell.timing and bare.timing, "pairs are timed"
        found = ratio(cell.timing, bare.timing)
        rows.append({
            "name": names.full(cell),
            "looks": precision(cell),
            "way": bare.way or "bare",
            "about": BARE.get(bare.way, "the library's own program"),
            "ours": number(cell.timing.p50),
            "bare": number(bare.timing.p50),
            "more": f"{100 * (found.value - 1):+.1f} %",
            "range": f"{100 * (found.low - 1):+.1f} to {100 * (found.high - 1):+.1f}",
            "noise": NOISE if found.holds(1) else "",
        })  # fmt: skip
    return rows


def distributions(results: Results) -> Row | None:
    """A violin for each cell, in times of its own median."""
    cells = [cell for cell in results.cells if cell.timing and len(cell.timing.samples) > 1]
    timings = [cell.timing for cell in cells if cell.timing]
    if not timings:
        return None
    low, high = plots.spread(timings)
    names = Names(results)

    def at(value: float) -> float:
        return round(min(100.0, max(0.0, 100 * (value - low) / (high - low))), 2)

    rows = [
        {
            "name": names.full(cell),
            "looks": f"{precision(cell)} {cell.kind}",
            "path": plots.violin(timing, low, high),
            "low": at(timing.low / timing.p50),
            "wide": round(at(timing.high / timing.p50) - at(timing.low / timing.p50), 2),
            "p95": at(timing.p95 / timing.p50),
            "p99": at(timing.p99 / timing.p50),
            "p50_ms": number(timing.p50),
            "p99_ms": number(timing.p99),
            "count": len(timing.samples),
        }
        for cell, timing in zip(cells, timings, strict=True)
    ]
    step = 0.1 if high - low < 0.8 else 0.25 if high - low < 1.6 else 0.5
    first = round(low / step + 0.499)
    ticks = [step * n for n in range(first, int(high / step) + 1)]
    return {"rows": rows, "ticks": [(at(t), f"{t:g}×") for t in map(_tidy, ticks)], "one": at(1)}


def _tidy(value: float) -> float:
    return round(value, 6)


def arrivals(results: Results) -> list[Row]:
    """From arrival to labels at a fixed rate, and what was overtaken."""
    names = Names(results)
    return [
        {
            "name": names.full(cell),
            "looks": f"{precision(cell)} {cell.kind}",
            "hz": f"{cell.arrival.hz:g}",
            "times": [number(t) for t in (cell.arrival.p50, cell.arrival.p95, cell.arrival.p99)],
            "dropped": percent(cell.arrival.dropped),
            "share": round(100 * cell.arrival.dropped, 1),
        }
        for cell in results.cells
        if cell.arrival
    ]


def classes(results: Results) -> list[Row]:
    """IoU by class in FP32 and INT8, for the fastest INT8 bundle of each model."""
    int8 = [c for c in results.cells if c.kind == "bundle" and c.precision == "int8" and c.timing]
    fastest: dict[str, Cell] = {}
    for cell in sorted(int8, key=lambda c: c.timing.p50 if c.timing else 0.0):
        if cell.accuracy and reference(results, cell):
            fastest.setdefault(cell.model, cell)
    order = [cell.model for cell in results.cells]
    return [
        _classes_of(results, fastest[model]) for model in dict.fromkeys(order) if model in fastest
    ]


def _classes_of(results: Results, cell: Cell) -> Row:
    base = reference(results, cell)
    assert base and base.accuracy and cell.accuracy, "only scored cells are compared"
    losses = class_losses(base, cell)
    names = Names(results)
    rows = [
        {
            "name": name,
            "before": round(100 * (base.accuracy.iou[name] or 0), 1),
            "after": round(100 * (cell.accuracy.iou[name] or 0), 1),
            "change": f"{-lost:+.1f}",
            "bad": lost > 1,
        }
        for name, lost in losses.items()
    ]
    absent = [name for name in cell.accuracy.iou if name not in losses]
    return {"name": names.model(cell), "base": names.full(base), "cell": names.full(cell),
            "rows": rows, "absent": absent, "miou": (percent(base.accuracy.miou, 2),
            percent(cell.accuracy.miou, 2))}  # fmt: skip


def stages(results: Results) -> Row | None:
    """Bars of the video pipeline's stages, as wide as their milliseconds."""
    if not results.stages:
        return None
    names = Names(results)
    longest = max(map(_total, results.stages))
    rows = [
        {
            "name": names.full(cell) if (cell := results.cell(one.cell)) else one.cell,
            "video": one.video,
            "parts": [
                {"stage": stage, "ms": number(ms), "wide": round(100 * ms / longest, 2)}
                for stage in STAGES
                if (ms := getattr(one, stage)) is not None
            ],
            "total": number(_total(one)),
            "fps": number(one.fps),
            "fps_engine": number(one.fps_engine),
            "share": percent(one.fps / one.fps_engine, 0) if one.fps_engine else None,
        }
        for one in results.stages
    ]
    return {"stages": STAGES, "rows": rows}


def _total(one: Stages) -> float:
    return sum(getattr(one, stage) for stage in STAGES)


def searches(results: Results) -> Iterator[Row]:
    """The sensitivity of each INT8 bundle that was searched, and its most sensitive layers."""
    for bundle, log in results.sensitivity.items():
        layers = sorted(log.get("layers") or [], key=lambda layer: -layer["drop"])
        rank = log.get("rank_correlation")
        yield {
            "bundle": bundle,
            "plot": sensitivity(log),
            "backend": proper(log.get("backend", "")),
            "frames": log.get("frames", ""),
            "chosen": len(log["chosen"]["kept"]) if log.get("chosen") else None,
            "rank": None if rank is None else f"{rank:.2f}",
            "layers": [
                (la["name"], percent(la["changed"], 2), f"{la['drop']:.2f}") for la in layers[:8]
            ],
            "count": len(layers),
        }


def tiles(results: Results, cell: Cell | None) -> list[tuple[str, str | None, str]]:
    """Name, number and remark of what one asks first."""
    if cell is None or cell.timing is None:
        return []
    timing, accuracy = cell.timing, cell.accuracy
    return [
        ("a frame, median", number(timing.p50, " ms"), f"95 %: {number(timing.low)}–"
         f"{number(timing.high)}"),
        ("slowest of a hundred", number(timing.p99, " ms"), "p99"),
        ("frames a second", number(cell.fps), _in_flight(cell)),
        ("mIoU", percent(accuracy.miou, 1) if accuracy else None,
         f"on {accuracy.frames} frames" if accuracy else ""),
        ("memory", number(cell.peak_mb, " MB"), "at its highest"),
        ("energy a frame", number(cell.joules, " J"), ""),
    ]  # fmt: skip


def _in_flight(cell: Cell) -> str:
    if cell.fps_in_flight is None:
        return "one at a time"
    return f"{number(cell.fps_in_flight)} with {cell.in_flight} in flight"


def facts(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of all that is known of a machine, versions by themselves."""
    found: list[tuple[str, str]] = []
    for name, value in machine.items():
        if isinstance(value, Mapping):
            found += [(proper(key), said(inner)) for key, inner in value.items()]
        else:
            found.append((name.replace("_", " "), said(value)))
    return found


def said(value: object) -> str:
    """A fact in words."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "not available" if value in (None, "") else str(value)
