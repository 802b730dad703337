"""The plain words that a report begins with, computed from its cells.

A difference whose interval holds "none" is never claimed: it is said to be inside the noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks.report.names import (
    Names,
    number,
    overheads,
    percent,
    proper,
    reference,
    signed,
    some,
    speedup,
    times,
    way,
    yardstick,
)
from benchmarks.results import Cell, Results
from benchmarks.stats.bootstrap import Interval, ratio

NOISE = "inside the noise"


def verdict(results: Results) -> str:
    """One line: what the fastest bundle of the most accurate model gains and loses."""
    chosen = recommended(results)
    if chosen is None:
        return "Nothing could be measured"
    return f"{way(chosen)}: {_gain(results, chosen)}{_loss(results, chosen)}"


def recommended(results: Results) -> Cell | None:
    """The fastest bundle of the model with the highest mIoU, of those that PyTorch was timed with
    where it was; without labels, the fastest."""
    timed = [cell for cell in results.cells if cell.kind == "bundle" and cell.timing]
    timed = [cell for cell in timed if yardstick(results, cell)] or timed
    scored = [cell for cell in timed if cell.accuracy]
    if scored:
        best = max(scored, key=_miou)
        timed = [cell for cell in timed if cell.model == best.model]
    return min(timed, key=_p50, default=None)


def broken(results: Results) -> list[tuple[str, str]]:
    """Who was not measured, and why; an engine that failed throughout is one."""
    names, found = Names(results), []
    for group, error in dict.fromkeys((_group(c), c.error) for c in results.cells if c.error):
        like = [cell for cell in results.cells if _group(cell) == group]
        failed = [cell for cell in like if cell.error == error]
        throughout = len(failed) == len(like) > 1
        who = group if throughout else some([names.full(cell) for cell in failed])
        found.append((who, error or ""))
    return found


def _group(cell: Cell) -> str:
    """What fails for one reason: an engine, all peers, the bare library."""
    return {
        "bundle": proper(cell.backend),
        "peer": "all peers",
        "bare": f"the bare {proper(cell.backend)}",
    }[cell.kind]


def failures(results: Results) -> list[str]:
    """The same in sentences."""
    return [f"{who}: not measured, because {why}" for who, why in broken(results)]


def sentences(results: Results) -> list[str]:
    """What a reader should take away, a sentence each."""
    parts: tuple[Iterable[str], ...] = (
        _models(results),
        _extremes(results),
        _precisions(results),
        _classes(results),
        _overhead(results),
        _camera(results),
    )
    return [sentence for part in parts for sentence in part]


def _models(results: Results) -> Iterator[str]:
    """Each model's fastest bundle against PyTorch."""
    names = Names(results)
    timed = [cell for cell in results.cells if cell.kind == "bundle" and cell.timing]
    for which in dict.fromkeys((cell.model, cell.input[1:]) for cell in timed):
        cell = min((c for c in timed if (c.model, c.input[1:]) == which), key=_p50)
        assert cell.timing
        took = f"{number(cell.timing.p50)} ms a frame ({_range(cell)})"
        gain = _gain(results, cell)
        base = "" if gain.startswith(str(number(cell.timing.p50))) else f", {gain}"
        yield f"{names.full(cell)} takes {took}{base}{_loss(results, cell)}."


def _gain(results: Results, cell: Cell) -> str:
    """``4.3× faster than PyTorch``, or what a frame takes where PyTorch was not timed."""
    found, base = speedup(results, cell), yardstick(results, cell)
    if found is None or base is None:
        assert cell.timing
        return f"{number(cell.timing.p50)} ms a frame"
    return compared(found, "PyTorch")


def compared(faster: Interval, than: str) -> str:
    """A ratio of times in words."""
    if faster.holds(1):
        return f"as fast as {than} (the difference is {NOISE})"
    if faster.value > 1:
        return f"{times(faster.value)} faster than {than}"
    return f"{times(1 / faster.value)} slower than {than}"


def _loss(results: Results, cell: Cell) -> str:
    """``, 0.2 points of mIoU lost``; what is under a twentieth of a point is none."""
    base = reference(results, cell)
    if cell.accuracy is None:
        return ", mIoU not measured"
    if base is None or base.accuracy is None or base is cell:
        return f", {percent(cell.accuracy.miou)} mIoU"
    lost = 100 * (base.accuracy.miou - cell.accuracy.miou)
    if abs(lost) < 0.05:
        return ", no mIoU lost"
    against = " against FP32" if base.kind == "bundle" else ""
    return f", {abs(lost):.1f} points of mIoU {'lost' if lost > 0 else 'gained'}{against}"


def _extremes(results: Results) -> Iterator[str]:
    """The fastest of all, unless others are as fast, and the most accurate."""
    names = Names(results)
    timed = sorted((c for c in results.cells if c.kind == "bundle" and c.timing), key=_p50)
    if len(timed) > 1:
        first = timed[0]
        equals = [names.full(cell) for cell in timed[1:] if _ratio(cell, first).holds(1)]
        yield f"Fastest: {names.full(first)}, {number(_p50(first))} ms a frame" + (
            f"; {some(equals)} cannot be told from it." if equals else "."
        )
    scored = [cell for cell in timed if cell.accuracy]
    if len({round(_miou(cell), 4) for cell in scored}) > 1:
        best = max(scored, key=_miou)
        frames = best.accuracy.frames if best.accuracy else 0
        yield f"Most accurate: {names.full(best)}, {percent(_miou(best))} mIoU on {frames} frames."


def _precisions(results: Results) -> Iterator[str]:
    """What INT8 gains over FP16 in each engine, model by model."""
    names = Names(results)
    for backend in dict.fromkeys(c.backend for c in results.cells if c.kind == "bundle"):
        pairs = list(_pairs(results, backend, "fp16", "int8"))
        if not pairs:
            continue
        faster = [found.value for _, found in pairs if found.low > 1]
        slower = [names.model(cell) for cell, found in pairs if found.high < 1]
        even = [names.model(cell) for cell, found in pairs if found.holds(1)]
        parts = []
        if faster:
            share = f" for {len(faster)} of {len(pairs)} models" if len(pairs) > 1 else ""
            parts.append(f"INT8 is {_between(faster)} faster than FP16{share}")
        if slower:
            parts.append(f"INT8 is slower than FP16 for {some(slower)}")
        if even:
            parts.append(f"INT8 against FP16 is {NOISE} for {some(even)}")
        yield f"In {proper(backend)}, {'; '.join(parts)}."


def _pairs(results: Results, backend: str, slow: str, fast: str) -> Iterator[tuple[Cell, Interval]]:
    """Cells of the precision ``fast`` and how many times faster they are than ``slow``."""
    cells = [c for c in results.cells if c.kind == "bundle" and c.backend == backend and c.timing]
    for cell in cells:
        for other in cells:
            if (other.precision, cell.precision) != (slow, fast):
                continue
            if (other.model, other.input) == (cell.model, cell.input):
                yield cell, _ratio(other, cell)


def _classes(results: Results) -> Iterator[str]:
    """The class that INT8 costs most."""
    names, worst = Names(results), (0.5, "")
    for cell in results.cells:
        base = reference(results, cell)
        if cell.kind != "bundle" or cell.precision != "int8" or base is None:
            continue
        for name, lost in class_losses(base, cell).items():
            sentence = f"{name} in {names.full(cell)}, {lost:.1f} points of IoU"
            worst = max(worst, (lost, sentence))
    if worst[1]:
        yield f"The class that INT8 costs most: {worst[1]}."


def class_losses(base: Cell, cell: Cell) -> dict[str, float]:
    """Points of IoU lost by class, of the classes that occur for both."""
    if base.accuracy is None or cell.accuracy is None:
        return {}
    pairs = ((name, base.accuracy.iou.get(name), iou) for name, iou in cell.accuracy.iou.items())
    return {
        name: 100 * (before - after)
        for name, before, after in pairs
        if before is not None and after is not None
    }


def _overhead(results: Results) -> Iterator[str]:
    """What our engine costs over the bare library with the same label tail."""
    pairs = [(cell, bare) for cell, bare in overheads(results) if bare.way in ("", "loop + tail")]
    if not pairs:
        return
    found = [_ratio(cell, bare) for cell, bare in pairs]
    shares = [100 * (one.value - 1) for one in found]
    inside = sum(one.holds(1) for one in found)
    low, high = signed(min(shares)), signed(max(shares))
    spread = f"{low} %" if low == high else f"{low} to {high} %"
    if inside == len(found):
        yield f"Our engine against the bare library: {NOISE} ({spread} of a frame)."
    else:
        noise = f"; {inside} of {len(found)} {NOISE}" if inside else ""
        yield f"Our engine against the bare library: {spread} of a frame{noise}."


def _camera(results: Results) -> Iterator[str]:
    """Which keep up with frames that arrive at a fixed rate."""
    cells = [c for c in results.cells if c.kind == "bundle" and c.arrival]
    if not cells:
        return
    names, hz = Names(results), cells[0].arrival.hz if cells[0].arrival else 0
    kept = [names.full(cell) for cell in cells if cell.arrival and not cell.arrival.dropped]
    behind = [names.full(cell) for cell in cells if names.full(cell) not in kept]
    fewer = f": {some(kept)}" if len(kept) <= len(behind) else f"; {some(behind)} do"
    fewer = fewer if behind else ""
    found = f"{len(kept)} of {len(cells)} drop none{fewer}" if kept else "all drop some"
    yield f"With frames arriving at {hz:g} Hz, {found}."


def _ratio(above: Cell, below: Cell) -> Interval:
    assert above.timing and below.timing, "only timed cells are compared"
    return ratio(above.timing, below.timing)


def _range(cell: Cell) -> str:
    """The interval of the median, as wide as it is."""
    assert cell.timing
    return f"{number(cell.timing.low)}–{number(cell.timing.high)}"


def _between(values: list[float]) -> str:
    low, high = times(min(values)), times(max(values))
    return str(low) if low == high else f"{low} to {high}"


def _p50(cell: Cell) -> float:
    return cell.timing.p50 if cell.timing else float("inf")


def _miou(cell: Cell) -> float:
    return cell.accuracy.miou if cell.accuracy else 0.0
