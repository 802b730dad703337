"""``python -m benchmarks.readme``: the tables of speeds in documents, from a report.json."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.report.markdown import footer, table
from benchmarks.report.names import yardstick
from benchmarks.results import Cell, Results
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


def replaced(text: str, results: Results, path: Path) -> str:
    """``text`` with the results between its comments; HedgeError, naming ``path``, without them."""
    begins = text.count(BEGIN) + text.count(SHORT)
    begin = SHORT if SHORT in text else BEGIN
    if begins != 1 or text.count(END) != 1 or text.index(begin) > text.index(END):
        raise HedgeError(f"{path}: needs one line {BEGIN} and below it one line {END}")
    before, rest = text.split(begin)
    after = rest.split(END)[1]
    settled = results.settled()
    shown = shortened(settled) if begin == SHORT else settled
    return f"{before}{begin}\n{table(shown)}\n\n({footer(settled)})\n{END}{after}"


def shortened(results: Results) -> Results:
    """Only PyTorch as the yardstick, and the fastest engine of each bundle."""
    fastest: dict[tuple[str, str], Cell] = {}
    for cell in sorted(results.cells, key=lambda c: c.timing.p50 if c.timing else float("inf")):
        if cell.kind == "bundle" and cell.timing:
            fastest.setdefault((cell.model, cell.precision), cell)
    found = (yardstick(results, cell) for cell in results.cells)
    peers = {cell.name for cell in found if cell}
    names = peers | {cell.name for cell in fastest.values()}
    cells = [cell for cell in results.cells if cell.name in names]
    return replace(results, cells=sorted(cells, key=lambda cell: cell.kind != "peer"))


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise HedgeError(f"{path}: not a readable text file: {error}") from error


if __name__ == "__main__":
    cli.run(Readme, main, "python -m benchmarks.readme")
