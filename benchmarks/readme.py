"""``python -m benchmarks.readme``: the tables of speeds in documents, from a report.json."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.report.markdown import ruled, text
from benchmarks.report.tables import tabulate
from benchmarks.report.view import View, derive
from benchmarks.results import Results
from runtime import cli, files
from runtime.errors import GateError, HedgeError

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
SHORT = "<!-- benchmarks:begin short -->"


@dataclass(frozen=True)
class Readme:
    """Write the table of a report.json between two comments of a Markdown file.

    The comments are <!-- benchmarks:begin --> and <!-- benchmarks:end -->, once each; what is
    between them is replaced. <!-- benchmarks:begin short --> asks for fewer rows: PyTorch, and each
    model's precisions in their fastest engine.

    Example: python -m benchmarks.readme benchmarks/results/report.json README.md
    """

    report: Annotated[Path, tyro.conf.Positional]
    """report.json of python -m benchmarks."""
    readme: Annotated[Path, tyro.conf.Positional]
    """Markdown file with the two comments."""
    check: bool = False
    """Write nothing; exit code 4 where the file does not hold this report's table."""


def main(config: Readme) -> None:
    """The command."""
    old = _read(config.readme)
    new = replaced(old, Results.load(config.report), config.readme)
    if not config.check:
        files.write_bytes(config.readme, new.encode())
        cli.say(f"→ {config.readme}")
    elif new != old:
        raise GateError(
            f"{config.readme}: its table is not that of {config.report}; write it anew: "
            f"python -m benchmarks.readme {config.report} {config.readme}"
        )


def replaced(old: str, results: Results, path: Path) -> str:
    """``old`` with the results between its comments; HedgeError, naming ``path``, without them."""
    begins = old.count(BEGIN) + old.count(SHORT)
    begin = SHORT if SHORT in old else BEGIN
    if begins != 1 or old.count(END) != 1 or old.index(begin) > old.index(END):
        raise HedgeError(f"{path}: needs one line {BEGIN} and below it one line {END}")
    before, rest = old.split(begin)
    after = rest.split(END)[1]
    view = derive(results)
    cells = tabulate(shortened(view) if begin == SHORT else view).cells
    return f"{before}{begin}\n{ruled(cells)}\n\n({text(tabulate(view).footer)})\n{END}{after}"


def shortened(view: View) -> View:
    """Only PyTorch as the yardstick, and the fastest engine of each bundle."""
    fastest: dict[tuple[str, str], str] = {}
    for row in sorted((r for r in view.rows if r.cell.timing), key=lambda row: row.p50):
        if row.cell.kind == "bundle":
            fastest.setdefault((row.cell.model, row.cell.precision), row.cell.name)
    names = {*fastest.values(), *(row.yardstick.name for row in view.rows if row.yardstick)}
    rows = [row for row in view.rows if row.cell.name in names]
    return replace(view, rows=sorted(rows, key=lambda row: row.cell.kind != "peer"))


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise HedgeError(f"{path}: not a readable text file: {error}") from error


if __name__ == "__main__":
    cli.run(Readme, main, "python -m benchmarks.readme")
