"""The view model: all that a report tells beside what its cells hold, derived once from them.

``derive(results)`` compares cells, names them and says what may be claimed; the page, the Markdown
and the README's table only write it down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report.numbers import proper
from benchmarks.report.rows import Row, rows_of
from benchmarks.results import Cell, Layers, Results
from benchmarks.stats.bootstrap import Interval, ratio

BUSY = 0.1  # of the cores: where other processes took more, no speed-up over PyTorch is claimed
TAIL = "loop + tail"  # the bare library's way that gives the same answer as our engine
# A part of the network, how models with it are named, and those without.
PARTS = (
    ("SE", "dlse", "vanilla"),
    ("edges", "dlse_hed", "dlse"),
    ("edges of HED lite", "dlse_hed-lite", "dlse"),
)


@dataclass(frozen=True)
class Comparison:
    """Two rows that were timed side by side; ratio: times as long as ``other`` takes ``row``."""

    row: Row
    other: Row
    ratio: Interval


@dataclass(frozen=True)
class Cost:
    """What a part of the frame takes; share: of the frame with it, 0..1."""

    part: str
    whole: Row
    rest: Row
    share: Interval


@dataclass(frozen=True)
class Share:
    """What the layers of a type take of a frame in an engine, and how near to the limit they are.

    ms: of the frame, as the library's profiler has it, as are its gflops and gbs, GB/s; part: of
    the ms of all layers; of_arithmetic: the least time that this machine can compute its products
    in, over the time that it took; of_memory: its GB/s over those of memory, more than 1 where a
    cache holds what is read. None where there is nothing to tell.
    """

    row: Row
    kind: str
    nodes: int
    ms: float
    part: float
    gflops: float | None
    of_arithmetic: float | None
    gbs: float
    of_memory: float | None


@dataclass(frozen=True)
class Broken:
    """Who was not measured, and why; serious: one of our engines failed, not a peer."""

    who: Sequence[str]
    why: str
    serious: bool


@dataclass(frozen=True)
class View:
    """A run as it is reported.

    best: the fastest row of the most accurate model, which the headline is about; fastest: every
    model's; equals: rows that cannot be told from the fastest of all; int8: every model's fastest
    in INT8 that was scored beside FP32. by_bare: our engines against
    the bare library; by_precision: FP16 over INT8, by backend; layers: of every model's fastest in
    each engine, all together last. doubt: why no speed-up is claimed.
    """

    results: Results
    rows: Sequence[Row]
    best: Row | None
    fastest: Sequence[Row]
    equals: Sequence[Row]
    int8: Sequence[Row]
    by_bare: Sequence[Comparison]
    by_precision: Mapping[str, Sequence[Comparison]]
    costs: Sequence[Cost]
    layers: Sequence[Share]
    broken: Sequence[Broken]
    doubt: str | None

    def row(self, name: str) -> Row | None:
        """The row of the cell of that name."""
        return next((row for row in self.rows if row.cell.name == name), None)


def derive(results: Results) -> View:
    """Everything that follows from a run; the numbers of cells that broke are left out."""
    results = results.settled()
    doubt = doubt_of(results)
    rows = rows_of(results.cells, claim=doubt is None)
    timed = sorted((r for r in rows if _is_timed(r, "bundle")), key=lambda row: row.p50)
    by_bare = _over_bare(rows)
    return View(
        results,
        rows,
        best=_best(timed),
        fastest=_fastest(timed),
        equals=[r for r in timed[1:] if _compared(r, timed[0]).ratio.holds(1)],
        int8=_fastest([r for r in timed if r.cell.precision == "int8" and r.lost is not None]),
        by_bare=by_bare,
        by_precision=_over_int8(rows),
        costs=[*_parts(rows), *(_cost("our code", c) for c in by_bare if c.other.cell.way == TAIL)],
        layers=[
            share
            for backend in dict.fromkeys(row.cell.backend for row in timed)
            for row in _fastest([r for r in timed if r.cell.backend == backend and r.cell.layers])
            for share in _shares(row, results.ceilings)
        ],
        broken=_broken(rows),
        doubt=doubt,
    )


def doubt_of(results: Results) -> str | None:
    """What makes every comparison with PyTorch worthless: its threads wait for each other busily,
    so whoever takes a core from one of them slows all, 40 times and more where two share two cores.
    At one thread there is nobody to wait for."""
    cores = results.machine.get("cores")
    if not isinstance(cores, int) or cores < 1:
        return None
    if results.threads != 1 and results.others > BUSY * cores:
        return f"other processes took {results.others:.1f} of {cores} cores while cells were timed"
    granted = results.machine.get("granted_cores", cores)  # reports of before 2026-12 lack it
    if isinstance(granted, (int, float)) and results.threads > granted:
        return f"{results.threads} threads shared {granted:g} cores, where PyTorch's wait busily"
    return None


def _is_timed(row: Row, kind: str) -> bool:
    return row.cell.kind == kind and row.cell.timing is not None


def _best(timed: Sequence[Row]) -> Row | None:
    """The fastest bundle of the model with the highest mIoU, of those that PyTorch was timed with
    where it was; without labels, the fastest. ``timed``: the fastest first."""
    beside = [row for row in timed if row.yardstick] or timed
    scored = [row for row in beside if row.cell.accuracy]
    if not scored:
        return next(iter(beside), None)
    most = max(scored, key=lambda row: row.miou).cell.model
    return next(row for row in beside if row.cell.model == most)


def _fastest(timed: Sequence[Row]) -> list[Row]:
    """Of each model and size; ``timed``: the fastest first."""
    found: dict[tuple[object, ...], Row] = {}
    for row in timed:
        found.setdefault((row.cell.model, row.cell.input[1:]), row)
    return list(found.values())


def _over_bare(rows: Sequence[Row]) -> list[Comparison]:
    """Our engine over the bare library with the same bundle, all ways of it."""
    return [
        _compared(row, bare)
        for row in rows
        for bare in rows
        if _is_timed(row, "bundle") and _is_timed(bare, "bare")
        if (row.cell.bundle, row.cell.backend) == (bare.cell.bundle, bare.cell.backend)
    ]


def _over_int8(rows: Sequence[Row]) -> dict[str, list[Comparison]]:
    """FP16 over INT8 of the same model, by backend."""
    found: dict[str, list[Comparison]] = {}
    timed = [row for row in rows if _is_timed(row, "bundle")]
    for row in timed:
        for other in timed:
            pair = (row.cell.precision, other.cell.precision)
            if pair == ("fp16", "int8") and _alike(row, other):
                found.setdefault(row.cell.backend, []).append(_compared(row, other))
    return found


def _alike(row: Row, other: Row) -> bool:
    """Whether both run the same model on as many frames of one size in the same engine."""
    return (row.cell.model, row.cell.input, row.cell.backend) == (
        other.cell.model, other.cell.input, other.cell.backend
    )  # fmt: skip


def _parts(rows: Sequence[Row]) -> list[Cost]:
    """SE and edges, where a model without the part was timed in the same engine and precision."""
    timed = {_place(r.cell, r.cell.model): r for r in rows if _is_timed(r, "bundle")}
    return [
        _cost(part, _compared(row, timed[bare]))
        for row in timed.values()
        for part, with_it, without in PARTS
        if row.cell.variant == with_it.partition("-")[0] and with_it in row.cell.model
        if (bare := _place(row.cell, row.cell.model.replace(with_it, without))) in timed
    ]


def _place(cell: Cell, model: str) -> tuple[object, ...]:
    """``model`` in the cell's engine, precision and size."""
    return model, cell.input, cell.precision, cell.backend


def _cost(part: str, found: Comparison) -> Cost:
    ratio = found.ratio
    share = Interval(*(1 - 1 / value for value in (ratio.value, ratio.low, ratio.high)))
    return Cost(part, found.row, found.other, share)


def _shares(row: Row, ceilings: Mapping[str, float]) -> list[Share]:
    """Of each type of layer, and of "all"."""
    found = row.cell.layers
    products: Counter[str] = Counter()
    for one in found:
        products.update(one.multiply_adds)
    nodes, ms = sum(one.nodes for one in found), sum(one.ms for one in found)
    everything = Layers("all", nodes, ms, dict(products), sum(one.bytes for one in found))
    return [_share(row, one, ms, ceilings) for one in (*found, everything)]


def _share(row: Row, one: Layers, whole: float, ceilings: Mapping[str, float]) -> Share:
    batch, ms = max(1, row.cell.input[0]), max(one.ms, 1e-6)  # the profilers count microseconds
    count, memory = sum(one.multiply_adds.values()), ceilings.get("memory")
    least = None  # milliseconds
    if count and one.multiply_adds.keys() <= ceilings.keys():
        least = sum(2 * n / ceilings[name] / 1e6 for name, n in one.multiply_adds.items())
    gbs = one.bytes / ms / 1e6
    return Share(
        row,
        one.kind,
        one.nodes,
        one.ms / batch,
        one.ms / max(whole, 1e-6),
        2 * count / ms / 1e6 if count else None,
        None if least is None else least / ms,
        gbs,
        gbs / memory if memory else None,
    )


def _compared(row: Row, other: Row) -> Comparison:
    above, below = row.cell.timing, other.cell.timing
    assert above and below, "only timed rows are compared"
    return Comparison(row, other, ratio(above, below))


def _broken(rows: Sequence[Row]) -> list[Broken]:
    """Cells with an error; an engine that failed throughout is one."""
    found = []
    for group, error in dict.fromkeys((_group(r.cell), r.cell.error) for r in rows if r.cell.error):
        like = [row for row in rows if _group(row.cell) == group]
        failed = [row for row in like if row.cell.error == error]
        throughout = len(failed) == len(like) > 1
        who = [group] if throughout else [row.name for row in failed]
        found.append(Broken(who, error or "", failed[0].cell.kind == "bundle"))
    return found


def _group(cell: Cell) -> str:
    """What fails for one reason: an engine, all peers, the bare library."""
    backend = proper(cell.backend)
    return {"bundle": backend, "peer": "all peers", "bare": f"the bare {backend}"}[cell.kind]
