"""``python -m tests.fuzz``: ten minutes of damaged and invented inputs of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runtime import cli
from runtime.errors import GateError
from runtime.numbers import Count, Positive, Seed
from tests.fuzz.campaign import campaign, show
from tests.fuzz.kinds import KINDS


@dataclass(frozen=True)
class Fuzz:
    """Try inputs of every kind; exit code 4 where one of them found a fault."""

    minutes: Positive = 10
    """Stop after this time."""
    inputs: Count = 1_000_000
    """Stop after as many inputs."""
    seed: Seed = 0
    """Another seed draws other inputs, the same one the same."""
    keep: Path = Path("fuzz-findings")
    """Folder for the inputs that found something."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Only these kinds."""


def main(config: Fuzz) -> None:
    """Run the campaign and print what it found."""
    tallies = campaign(config.seed, config.inputs, config.minutes, config.keep, config.kinds)
    show(tallies)
    if count := sum(len(tally.findings) for tally in tallies.values()):
        raise GateError(f"{count} faults found; their inputs are in {config.keep}")


if __name__ == "__main__":
    cli.run(Fuzz, main, "python -m tests.fuzz")
