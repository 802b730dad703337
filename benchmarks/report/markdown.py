"""report.md, for a pull request: plain words, what failed, the tables, the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from benchmarks.report.sentences import Words
from benchmarks.report.tables import Lines, Tables, is_words

if TYPE_CHECKING:
    from benchmarks.gate.judge import Verdict


def to_markdown(words: Words, tables: Tables, gate: Verdict | None = None) -> str:
    """The whole file."""
    parts = [
        f"### {text(words.headline)}",
        _bullets([f"**{text(str(gate))}**", *map(text, gate.notes)]) if gate else "",
        _bullets(f"**{text(line)}**" for line in words.failures),
        _bullets(map(text, [*words.sentences, *words.notes])),
        *map(ruled, tables.filled),
        text(tables.footer),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def ruled(lines: Lines) -> str:
    """A table in Markdown; words to the left, numbers to the right."""
    rule = ["---" if is_words(lines, number) else "--:" for number in range(len(lines[0]))]
    escaped = [[text(cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [escaped[0], rule, *escaped[1:]])


def text(value: str) -> str:
    """One line in which nothing is markup, of Markdown or of HTML."""
    line = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;")
    escaped = re.sub(r"([\\`*\[\]|~])", r"\\\1", line)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", escaped)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
