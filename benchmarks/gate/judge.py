"""Is this run worse than a baseline, beyond the noise? ``--baseline report.json --fail-if RULE``.

Cells are compared by name. How much longer the machine itself took is told by what does not depend
on the bundle that is judged, and is divided out:

1. the peers in both runs that did the same work (input and multiply-adds), by the median; PyTorch
   only where neither run doubts it, for a busy machine slows it many times as much as others;
2. without such peers, the cells of all other bundles, by the median: one bundle that slows down
   shows, all of them slowing down alike cannot be told from a slower machine, and is said;
3. without those, nothing: times are compared as they are, and that is said.

Rounds are drawn again and again (benchmarks.stats.bootstrap) for the 99 % interval of what is
left; a rule fails only where all of that interval meets it. Where the middle of it does and the
rest does not, the run was too short to tell: it passes, and that is said. Accuracies are counted,
not timed, and have no interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.gate.rule import Comparison, Rule, parse
from benchmarks.report.view import doubt_of
from benchmarks.results import Cell, Fact, Results, Timing
from benchmarks.stats.bootstrap import Interval, draws
from runtime.accuracy.metrics import points_lost
from runtime.errors import GateError, HedgeError

__all__ = ["Verdict", "judge", "parse"]

LEVEL = 0.99
QUANTILES = {"latency": 0.5, "p95": 0.95}
ACCURACIES = {"miou", "boundary_f"}
MEASURES = {
    "latency": "its latency", "p95": "its latency", "miou": "its mIoU",
    "boundary_f": "its boundary F", "memory": "its memory",
}  # fmt: skip
TOLD = {
    "peers": "the machine took {ratio}× as long as in the baseline, as its peers tell",
    "bundles": "the machine took {ratio}× as long as in the baseline, as the other bundles "
    "tell (no peer with the same work is in both runs); all slowing down alike would not show",
    "": "nothing beside the bundle is in both runs: times are compared as they are, also where the "
    "machine itself was slower",
}
UNDECIDED = "{found}; more than the rule allows, but not beyond the noise: a longer --budget tells"

Pair = tuple[Cell, Cell]  # now, baseline


@dataclass(frozen=True)
class Verdict:
    """What a gate found, in plain words; it is passed where there are no failures."""

    rule: str
    judged: int
    failures: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def __str__(self) -> str:
        if self.passed:
            return f"gate passed: none of {self.judged} cells meets {self.rule}"
        return f"gate failed ({self.rule}): " + "; ".join(self.failures)

    def require(self) -> None:
        """GateError (exit code 4) names the failures."""
        if not self.passed:
            raise GateError(str(self))


@dataclass(frozen=True)
class Machine:
    """How much longer the machine itself takes now, for one cell; draws: (DRAWS,)."""

    ratio: float = 1.0
    draws: np.ndarray = field(default_factory=lambda: np.ones(1))
    told_by: str = ""


def judge(results: Results, baseline: Results, rule: Rule) -> Verdict:
    """Hold ``results`` against ``baseline``; HedgeError where the two cannot be compared."""
    results, baseline = results.settled(), baseline.settled()
    pairs = [
        (cell, old)
        for cell in results.cells
        if cell.kind == "bundle" and (old := baseline.cell(cell.name)) and old.kind == "bundle"
    ]
    if not pairs:
        raise HedgeError(
            "--baseline: no bundle of this run is in it by the same name: "
            f"{_few([c.name for c in results.cells if c.kind == 'bundle'])} against "
            f"{_few([c.name for c in baseline.cells if c.kind == 'bundle'])}"
        )
    _require_comparable(results, baseline, pairs, rule.names())
    judged = [pair for pair in pairs if not pair[0].error and not pair[1].error]
    drifts = _drifts(results, baseline)
    machines = {cell.name: _machine(drifts, cell) for cell, _ in judged}
    failures = [
        f"{now.name}: measured in the baseline, but now: {now.error}"
        for now, old in pairs
        if now.error and not old.error
    ]
    undecided: list[str] = []
    for pair in judged:
        failed, unsure = _found(pair, machines[pair[0].name], rule)
        failures += failed
        undecided += unsure
    timed = rule.names() & QUANTILES.keys()
    notes = _notes(results, baseline, list(machines.values()) if timed else [])
    return Verdict(str(rule), len(judged), failures, [*undecided, *notes])


def _require_comparable(
    results: Results, baseline: Results, pairs: Sequence[Pair], names: set[str]
) -> None:
    """HedgeError where a rule could not fail, or where it would compare different things."""
    for name in sorted(names):
        if not any(_value(old, name) is not None for _, old in pairs):
            raise HedgeError(f"--fail-if: the baseline holds no {name} of any bundle of this run")
    if not names & ACCURACIES:
        return
    if results.data and baseline.data and results.data != baseline.data:
        raise HedgeError(
            f"--baseline: accuracy on {baseline.data}, in this run on {results.data}; "
            "compare runs on the same --data"
        )
    for now, old in pairs:
        if not (now.accuracy and old.accuracy):
            continue
        if now.accuracy.frames != old.accuracy.frames:
            raise HedgeError(
                f"--baseline: {old.name} was scored on {old.accuracy.frames} frames, in this run "
                f"on {now.accuracy.frames}; compare runs on the same frames"
            )
        if others := sorted(now.accuracy.iou.keys() ^ old.accuracy.iou.keys()):
            raise HedgeError(
                f"--baseline: {old.name} was scored on other classes than in this run, which "
                f"differ in {_few(others)}; make a new baseline"
            )


def _found(pair: Pair, machine: Machine, rule: Rule) -> tuple[list[str], list[str]]:
    """What fails, and what would if it lay beyond the noise, as sentences."""
    now, old = pair
    lost = [
        f"{now.name}: {MEASURES[name]} is in the baseline, but was not measured now"
        for name in sorted(rule.names())
        if _value(old, name) is not None and _value(now, name) is None
    ]
    changes = {name: c for name in rule.names() if (c := _change(pair, name, machine))}
    met = rule.met(changes)
    likely = rule.met({name: Interval.exactly(change.value) for name, change in changes.items()})
    failed = [_sentence(pair, comparison, changes, machine) for comparison in met]
    unsure = [
        UNDECIDED.format(found=_sentence(pair, comparison, changes, machine))
        for comparison in likely
        if comparison not in met and comparison.name in QUANTILES
    ]
    return lost + failed, unsure


def _change(pair: Pair, name: str, machine: Machine) -> Interval | None:
    """From the baseline to now, in the unit of ``name``; None where one of them lacks it."""
    now, old = _value(pair[0], name), _value(pair[1], name)
    if now is None or old is None or (old <= 0 and name not in ACCURACIES):
        return None
    if name == "memory":
        return Interval.exactly(now / old)
    if name == "miou":
        gained = points_lost(before=_iou(pair[0]), after=_iou(pair[1]))  # by going back, that is
        return Interval.exactly(round(gained, 9))
    if name in ACCURACIES:
        return Interval.exactly(round(100 * (now - old), 9))
    drawn = _ratios(pair, QUANTILES[name]) / machine.draws
    return Interval.around(now / old / machine.ratio, drawn, LEVEL)


def _ratios(pair: Pair, quantile: float = 0.5) -> np.ndarray:
    """(DRAWS,) of now over baseline; the rounds of two runs have nothing to do with each other."""
    now, old = (_timing(cell) for cell in pair)
    return draws(now, quantile, seed=0) / draws(old, quantile, seed=1)


def _drifts(results: Results, baseline: Results) -> list[tuple[Pair, np.ndarray]]:
    """Every cell that is timed in both runs and tells the machine's speed, with its ``_ratios``."""
    doubted = doubt_of(results) or doubt_of(baseline)
    pairs = [
        (cell, old)
        for cell in results.cells
        if cell.timing and (old := baseline.cell(cell.name)) and old.timing
        if not (doubted and cell.backend == "pytorch")
    ]
    return [(pair, _ratios(pair)) for pair in pairs]


def _machine(drifts: Sequence[tuple[Pair, np.ndarray]], cell: Cell) -> Machine:
    """What the cells that do not depend on the bundle of ``cell`` say of the machine."""
    peers = [drift for drift in drifts if drift[0][0].kind == "peer" and _same_work(drift[0])]
    others = [d for d in drifts if d[0][0].kind != "peer" and d[0][0].bundle != cell.bundle]
    for told_by, found in (("peers", peers), ("bundles", others)):
        if found:
            ratios = [_timing(now).p50 / _timing(old).p50 for (now, old), _ in found]
            drawn = np.median([drawn for _, drawn in found], axis=0)
            return Machine(float(np.median(ratios)), drawn, told_by)
    return Machine()


def _same_work(pair: Pair) -> bool:
    now, old = pair
    return (now.input, now.multiply_adds) == (old.input, old.multiply_adds)


def _sentence(
    pair: Pair, comparison: Comparison, changes: dict[str, Interval], machine: Machine
) -> str:
    now, old = (_value(cell, comparison.name) for cell in pair)
    change = changes[comparison.name]
    assert now is not None and old is not None, "a change is of two values"
    if comparison.name in ACCURACIES:
        found = f"{100 * old:.2f} → {100 * now:.2f} %, {change.value:+.2f} points"
    elif comparison.name == "memory":
        found = f"{old:.0f} → {now:.0f} MB, {change.value:.2f}×"
    else:
        found = (
            f"{old:.2f} → {now:.2f} ms, {change.value:.2f}× "
            f"({change.low:.2f}–{change.high:.2f}) while the machine took {machine.ratio:.2f}×"
        )
    return f"{pair[0].name}: {comparison}: {found}"


def _notes(results: Results, baseline: Results, machines: Sequence[Machine]) -> list[str]:
    notes = []
    names = {cell.name for cell in results.cells}
    gone = [c.name for c in baseline.cells if c.kind == "bundle" and c.name not in names]
    if gone:
        notes.append(f"in the baseline, but not in this run: {_few(gone)}")
    gpus, before = (_gpus(run.machine.get("gpus")) for run in (results, baseline))
    for what, now, old in (
        ("CPU", results.machine.get("cpu"), baseline.machine.get("cpu")),
        ("GPUs", gpus, before),
        *_versions(results, baseline),
        ("threads", results.threads, baseline.threads),
    ):
        if now != old:
            notes.append(f"{what}: {old} in the baseline, {now} now")
    for run, words in ((baseline, " in the baseline"), (results, "")):
        if machines and (why := doubt_of(run)):
            notes.append(f"PyTorch does not tell how fast the machine was: {why}{words}")
    for told_by, note in TOLD.items():
        ratios = [machine.ratio for machine in machines if machine.told_by == told_by]
        if ratios:
            notes.append(note.format(ratio=_span(ratios)))
    return notes


def _versions(results: Results, baseline: Results) -> list[tuple[str, str, str]]:
    """Of each library: its name, the version now, and that of the baseline."""
    found = [run.machine.get("versions") for run in (results, baseline)]
    now, old = (dict(one) if isinstance(one, Mapping) else {} for one in found)
    return [(name, now.get(name, "none"), old.get(name, "none")) for name in (now | old)]


def _gpus(names: Fact) -> str:
    """Of a machine, in words: a run's own are a tuple, those of a file a list."""
    return ", ".join(names) if isinstance(names, (list, tuple)) and names else "none"


def _span(ratios: Sequence[float]) -> str:
    """``1.07``, or ``1.07 to 1.38`` where cells were told different things."""
    return " to ".join(dict.fromkeys(f"{ratio:.2f}" for ratio in (min(ratios), max(ratios))))


def _value(cell: Cell, name: str) -> float | None:
    if name in QUANTILES:
        return getattr(cell.timing, {"latency": "p50", "p95": "p95"}[name], None)
    if name == "memory":
        return cell.peak_mb
    return getattr(cell.accuracy, name, None)


def _iou(cell: Cell) -> Mapping[str, float | None]:
    assert cell.accuracy is not None, "only scored cells are compared"
    return cell.accuracy.iou


def _timing(cell: Cell) -> Timing:
    assert cell.timing is not None, "only timed cells are compared"
    return cell.timing


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) or "none"
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
