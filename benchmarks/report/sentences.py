"""The plain words that a report begins with.

A difference whose interval holds "none" is never claimed: it is said to be inside the noise. Where
an interval is wide, the claim is all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.report.numbers import number, percent, proper, signed, some, span, times
from benchmarks.report.rows import Row
from benchmarks.report.view import TAIL, Comparison, View
from benchmarks.stats.bootstrap import Interval

NOISE = "inside the noise"
WIDE = 1.25  # highest over lowest of a ratio, from where the claim is its span


@dataclass(frozen=True)
class Words:
    """headline: what is gained and lost; sentences: what to take away; failures: which of our
    engines were not measured, and why; notes: what else to know, peers that are missing included.
    """

    headline: str
    sentences: Sequence[str]
    failures: Sequence[str]
    notes: Sequence[str]


def words(view: View) -> Words:
    """All that a report says in words."""
    parts: tuple[Iterable[str], ...] = (
        _doubt(view),
        map(_model, view.fastest),
        _extremes(view),
        _precisions(view),
        _classes(view),
        _overhead([one for one in view.by_bare if one.other.cell.way in ("", TAIL)]),
        _camera([row for row in view.rows if row.cell.kind == "bundle" and row.cell.arrival]),
    )
    broken = [
        (one.serious, f"{some(one.who)}: not measured, because {one.why}") for one in view.broken
    ]
    return Words(
        _headline(view),
        [sentence for part in parts for sentence in part],
        failures=[line for serious, line in broken if serious],
        notes=[*view.results.notes, *(line for serious, line in broken if not serious)],
    )


def _headline(view: View) -> str:
    """What the fastest bundle of the most accurate model gains and loses."""
    if view.best is not None:
        return f"{view.best.way}: {_gain(view.best)}{_loss(view.best)}"
    if view.results.pipelines:
        least = min(one.overlay for one in view.results.pipelines)
        return f"The video pipeline keeps {percent(least, 0)} or more of its engine's speed"
    return "Nothing could be measured"


def _doubt(view: View) -> Iterator[str]:
    if view.doubt and any(row.yardstick for row in view.rows):
        yield f"How much faster than PyTorch cannot be told: {view.doubt}."


def _model(row: Row) -> str:
    """A model's fastest bundle against PyTorch."""
    timing = row.cell.timing
    assert timing is not None
    took = f"{number(row.p50)} ms a frame ({number(timing.low)}–{number(timing.high)})"
    gain = f", {_gain(row)}" if row.faster else ""
    return f"{row.name} takes {took}{gain}{_loss(row)}."


def _gain(row: Row) -> str:
    """``4.3× faster than PyTorch``, or what a frame takes where that cannot be told."""
    faster = row.faster
    if faster is None:
        return f"{number(row.p50)} ms a frame"
    if faster.holds(1):
        return f"as fast as PyTorch (the difference is {NOISE})"
    word = "faster" if faster.value > 1 else "slower"
    if faster.value < 1:
        faster = Interval(1 / faster.value, 1 / faster.high, 1 / faster.low)
    wide = faster.high > WIDE * faster.low
    return f"{f'{span(faster)}×' if wide else times(faster.value)} {word} than PyTorch"


def _loss(row: Row) -> str:
    """``, 0.2 points of mIoU lost``; what is under a twentieth of a point is none."""
    if row.cell.accuracy is None:
        return ", mIoU not measured"
    if row.lost is None or row.reference is None or row.reference is row.cell:
        return f", {percent(row.miou)} mIoU"
    if abs(row.lost) < 0.05:
        return ", no mIoU lost"
    against = " against FP32" if row.reference.kind == "bundle" else ""
    return f", {abs(row.lost):.1f} points of mIoU {'lost' if row.lost > 0 else 'gained'}{against}"


def _extremes(view: View) -> Iterator[str]:
    """The fastest of all, unless others are as fast, and the most accurate."""
    timed = [row for row in view.rows if row.cell.kind == "bundle" and row.cell.timing]
    if len(timed) > 1:
        first = min(timed, key=lambda row: row.p50)
        equals = some([row.name for row in view.equals])
        yield f"Fastest: {first.name}, {number(first.p50)} ms a frame" + (
            f"; {equals} cannot be told from it." if equals else "."
        )
    scored = [row for row in timed if row.cell.accuracy]
    if len({round(row.miou, 4) for row in scored}) > 1:
        best = max(scored, key=lambda row: (row.miou, -row.p50))
        frames = best.cell.accuracy.frames if best.cell.accuracy else 0
        yield f"Most accurate: {best.name}, {percent(best.miou)} mIoU on {frames} frames."


def _precisions(view: View) -> Iterator[str]:
    """What INT8 gains over FP16 in each engine, model by model."""
    for backend, pairs in view.by_precision.items():
        faster = [one.ratio.value for one in pairs if one.ratio.low > 1]
        slower = [one.row.model for one in pairs if one.ratio.high < 1]
        even = [one.row.model for one in pairs if one.ratio.holds(1)]
        parts = []
        if faster:
            share = f" for {len(faster)} of {len(pairs)} models" if len(pairs) > 1 else ""
            ends = dict.fromkeys((times(min(faster)), times(max(faster))))
            parts.append(f"INT8 is {' to '.join(map(str, ends))} faster than FP16{share}")
        if slower:
            parts.append(f"INT8 is slower than FP16 for {some(slower)}")
        if even:
            parts.append(f"INT8 against FP16 is {NOISE} for {some(even)}")
        yield f"In {proper(backend)}, {'; '.join(parts)}."


def _classes(view: View) -> Iterator[str]:
    """The class that INT8 costs most, from half a point."""
    lost = [
        (points, f"{name} in {row.name}, {points:.1f} points of IoU")
        for row in view.rows
        if row.cell.kind == "bundle" and row.cell.precision == "int8"
        for name, points in row.lost_by_class.items()
        if points > 0.5
    ]
    if lost:
        yield f"The class that INT8 costs most: {max(lost)[1]}."


def _overhead(pairs: Sequence[Comparison]) -> Iterator[str]:
    """What our engine costs over the bare library with the same label tail."""
    if not pairs:
        return
    shares = [100 * (one.ratio.value - 1) for one in pairs]
    inside = sum(one.ratio.holds(1) for one in pairs)
    spread = " to ".join(dict.fromkeys((signed(min(shares)), f"{signed(max(shares))}"))) + " %"
    if inside == len(pairs):
        yield f"Our engine against the bare library: {NOISE} ({spread} of a frame)."
    else:
        noise = f"; {inside} of {len(pairs)} {NOISE}" if inside else ""
        yield f"Our engine against the bare library: {spread} of a frame{noise}."


def _camera(rows: Sequence[Row]) -> Iterator[str]:
    """Which keep up with frames that arrive at a fixed rate."""
    arrivals = [(row.name, row.cell.arrival) for row in rows if row.cell.arrival]
    if not arrivals:
        return
    kept = [name for name, arrival in arrivals if not arrival.dropped]
    behind = [name for name, arrival in arrivals if arrival.dropped]
    fewer = f": {some(kept)}" if len(kept) <= len(behind) else f"; {some(behind)} do"
    fewer = fewer if behind else ""
    found = f"{len(kept)} of {len(arrivals)} drop none{fewer}" if kept else "all drop some"
    yield f"With frames arriving at {arrivals[0][1].hz:g} Hz, {found}."
