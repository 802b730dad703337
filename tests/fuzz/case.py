"""One input of the campaign: its files, and who judges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import strategies as st

from runtime import files
from tests.fuzz.worker import Judge


@dataclass(frozen=True)
class Case:
    """One input.

    contents: its files, by name; target: which of them is tried, "" for their folder; judge: who
    tries it; like: the whole file that it must be understood as, unless it is refused; story: what
    was done to it.
    """

    contents: dict[str, bytes]
    target: str
    judge: Judge
    story: str
    like: Path | None = None
    prepare: Callable[[Path], None] | None = field(default=None, repr=False)

    def write(self, folder: Path) -> Path:
        """Write it; what is to be tried."""
        for name, data in self.contents.items():
            files.write_bytes(folder / name, data)
        if self.prepare:
            self.prepare(folder)
        return folder / self.target


Cases = st.SearchStrategy[Case]
