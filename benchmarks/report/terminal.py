"""What a run says on the terminal: its tables, what was not measured, and where the report lies."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from benchmarks.report.sentences import words
from benchmarks.report.tables import Lines, is_words, tabulate
from benchmarks.report.view import View
from runtime import cli


def tell(view: View, out: Path) -> None:
    """Print everything; ``out``: the folder of the report."""
    said, found = words(view), tabulate(view, notes=True)
    for lines in found.filled:
        cli.out.print(table(lines))
    cli.say(found.footer)
    for failure in said.failures:
        cli.warn(failure)
    for note in [*said.notes, *([view.doubt] if view.doubt else [])]:
        cli.say(note, cli.err)
    cli.say(f"→ {out}/report.html, report.md, report.json")


def table(lines: Lines) -> Table:
    """``lines``, of which the first is the head; words to the left, numbers to the right."""
    table = Table()
    for number, head in enumerate(lines[0]):
        justify = "left" if is_words(lines, number) else "right"
        table.add_column(head, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for line in lines[1:]:
        table.add_row(*line)
    return table
