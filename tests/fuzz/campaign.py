"""A campaign: inputs of every kind in turn, and what became of them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from rich.table import Table

from runtime import cli
from tests.fuzz.case import Case, Cases
from tests.fuzz.command_lines import load_commands
from tests.fuzz.kinds import KINDS
from tests.fuzz.worker import FINDINGS, Outcome, Verdict, Worker

_SLOW_S = 5.0  # of an input that is worth a line


@dataclass
class Tally:
    """What became of the inputs of one kind.

    peak: bytes of memory at most; slowest: the seconds of the slowest input, and what it was.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    peak: int = 0
    slowest: tuple[float, str] = (0.0, "")

    def add(self, case: Case, verdict: Verdict) -> None:
        self.outcomes[verdict.outcome] += 1
        self.peak = max(self.peak, verdict.peak)
        self.slowest = max(self.slowest, (verdict.seconds, case.story))
        if verdict.outcome in FINDINGS:
            told = f"{verdict.outcome}: {verdict.detail}\n  {case.judge.__name__} of {case.story}"
            self.findings.append(told[:1500])


def campaign(
    seed: int,
    inputs: int,
    minutes: float = float("inf"),
    keep: Path | None = None,
    kinds: tuple[str, ...] = tuple(KINDS),
    each: int = 50,
) -> dict[str, Tally]:
    """Try ``inputs`` inputs, ``each`` of a kind in turn, or as many as the minutes allow.

    keep: a folder for the inputs that found something.
    """
    end = time.monotonic() + 60 * minutes
    tallies = {name: Tally() for name in kinds}
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hedge-fuzz-")))
        worker = stack.enter_context(Worker(root, prepare=load_commands))
        strategies = {kind: KINDS[kind](_made(root / "whole" / kind)) for kind in kinds}
        number = 0
        while True:
            kind = kinds[number // each % len(kinds)]
            for case in drawn(strategies[kind], each, seed * 1_000_003 + number):
                if number >= inputs or time.monotonic() > end:
                    return tallies
                # Deep, so that ".." is still a folder that nobody misses.
                folder = _made(root / "tried" / "deep" / f"{number}")
                verdict = worker.judge(case.judge, case.write(folder), case.like)
                tallies[kind].add(case, verdict)
                if keep and verdict.outcome in FINDINGS:
                    shutil.copytree(
                        folder,
                        keep / f"{kind}-{seed}-{number}",
                        symlinks=True,
                        ignore=shutil.ignore_patterns("pipe"),
                        dirs_exist_ok=True,
                    )
                shutil.rmtree(root / "tried")
                number += 1


def drawn(cases: Cases, count: int, seed: int) -> list[Case]:
    """Cases drawn by Hypothesis, the same for the same seed."""
    found: list[Case] = []

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found[:count]


def show(tallies: dict[str, Tally]) -> None:
    """Print a row for each kind, and every finding."""
    columns: tuple[Outcome, ...] = ("taken", "refused", *FINDINGS)
    table = Table("kind", "inputs", *columns, "peak MiB", "slowest s")
    for kind, tally in tallies.items():
        counts = [str(tally.outcomes[name]) for name in columns]
        total = str(tally.outcomes.total())
        table.add_row(kind, total, *counts, str(tally.peak >> 20), f"{tally.slowest[0]:.1f}")
    cli.out.print(table)
    for kind, tally in tallies.items():
        if tally.slowest[0] > _SLOW_S:
            cli.say(f"{kind}: {tally.slowest[0]:.1f} s: {tally.slowest[1]}"[:300])
        for finding in tally.findings:
            cli.say(f"{kind}: {finding}")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
