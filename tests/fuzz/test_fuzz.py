"""A part of the campaign, the same each time; ``python -m tests.fuzz`` goes on for ten minutes."""

from __future__ import annotations

from tests.fuzz.campaign import campaign, show
from tests.fuzz.kinds import KINDS

EACH = 25


def test_no_input_of_any_kind_finds_a_fault() -> None:
    tallies = campaign(seed=0, inputs=EACH * len(KINDS), each=EACH)
    show(tallies)
    assert not [finding for tally in tallies.values() for finding in tally.findings]
    assert all(tally.outcomes.total() == EACH for tally in tallies.values())
    assert all(tally.outcomes["refused"] for tally in tallies.values())
