"""report.md, for a pull request: plain words, what failed, one table, the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from benchmarks.report.columns import brief
from benchmarks.report.names import Names, proper, way
from benchmarks.report.sentences import failures, sentences, verdict
from benchmarks.results import Cell, Results

if TYPE_CHECKING:
    from benchmarks.gate.judge import Verdict


def to_markdown(results: Results, gate: Verdict | None = None) -> str:
    """The whole file."""
    results = results.settled()
    parts = [
        f"### {text(verdict(results))}",
        _bullets([f"**{text(str(gate))}**", *map(text, gate.notes)]) if gate else "",
        _bullets(f"**{text(line)}**" for line in failures(results)),
        _bullets(map(text, [*sentences(results), *results.notes])),
        table(results),
        footer(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(results: Results) -> str:
    """Every bundle and peer that was timed, in the columns there is room for."""
    names, shown = Names(results), brief(results)
    cells = [cell for cell in results.cells if cell.kind != "bare" and cell.timing]
    heads = ["model", "engine", *(column.head for column in shown)]
    lines = [heads, ["---", "---", *("--:" for _ in shown)]]
    for cell in cells:
        row = [text(names.model(cell)), text(way(cell) + _batch(cell, cells))]
        lines.append([*row, *(column.text(cell) or "–" for column in shown)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def footer(results: Results) -> str:
    """Where and how this was measured, in a line."""
    machine = results.machine
    versions = machine.get("versions") or {}
    sizes = dict.fromkeys(f"{c.input[1]}×{c.input[2]}" for c in results.cells if any(c.input))
    threads = f"{results.threads} threads" if results.threads else "threads as each library likes"
    rounds = max((len(c.timing.samples) for c in results.cells if c.timing), default=0)
    scored = any(cell.accuracy for cell in results.cells)
    parts = [
        machine.get("cpu"),
        ", ".join(machine.get("gpus") or ()),
        f"{machine['cores']} cores" if machine.get("cores") else None,
        threads,
        ", ".join(f"{proper(name)} {version}" for name, version in versions.items()),
        f"{', '.join(sizes)} pixels" if sizes else None,
        f"medians of up to {rounds} interleaved rounds" + " (a quick run)" * results.quick,
        ("accuracy on " if scored else "accuracy not measured: ") + (results.data or "no data"),
    ]
    return text("; ".join(str(part) for part in parts if part))


def text(value: str) -> str:
    """One line in which nothing is markup, of Markdown or of HTML."""
    line = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;")
    escaped = re.sub(r"([\\`*\[\]|~])", r"\\\1", line)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", escaped)


def _batch(cell: Cell, cells: Sequence[Cell]) -> str:
    """The input's size, where it tells two rows apart."""
    alike = [other for other in cells if (other.model, way(other)) == (cell.model, way(cell))]
    return f", {'×'.join(map(str, cell.input))}" if len({o.input for o in alike}) > 1 else ""


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
