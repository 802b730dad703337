"""Every command of Hedge, found in its code; a MkDocs hook writes their ``--help`` into a page."""

from __future__ import annotations

import importlib
import io
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import tyro

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("train", "export", "runtime", "benchmarks")  # in the order of the data
MARK = "<!-- commands -->"
COLUMNS = "74"
EXAMPLE = re.compile(r"(Example: |Then: )?(python -m|hedge|torchrun) ")

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from hedge_seg.commands import COMMANDS as DOORS  # noqa: E402
from runtime import cli  # noqa: E402


@dataclass(frozen=True)
class Command:
    """A command: its module ("train"), its name behind ``hedge``, and its command line.

    door: None where ``hedge`` does not have it.
    """

    module: str
    door: str | None
    config: type

    @property
    def name(self) -> str:
        """What is typed."""
        return f"hedge {self.door}" if self.door else f"python -m {self.module}"

    def parse(self, arguments: list[str]) -> object:
        """The configuration that ``arguments`` give; SystemExit or HedgeError where they do not."""
        return tyro.cli(self.config, prog=self.name, args=arguments)

    def help(self) -> str:
        """What ``--help`` prints."""
        text = io.StringIO()
        narrow = patch.dict(os.environ, COLUMNS=COLUMNS)
        with narrow, redirect_stdout(text), suppress(SystemExit):
            cli.parse(self.config, self.name, ["--help"])
        # A description comes in lines of any length; examples stay whole, to be copied.
        lines = [line.rstrip() for line in text.getvalue().strip().splitlines()]
        return "\n".join(
            line if EXAMPLE.match(line) else textwrap.fill(line, int(COLUMNS)) for line in lines
        )


def commands() -> Iterator[Command]:
    """Every module that ends in ``cli.run(Config, main, "python -m …")``."""
    doors = {row.module: name for name, row in DOORS.items()}
    ends = re.compile(r'^    cli\.run\((\w+), \w+, "python -m ([\w.]+)"\)', re.MULTILINE)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if found := ends.search(path.read_text(encoding="utf-8")):
                file = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                config = getattr(importlib.import_module(file), found[1])
                yield Command(found[2], doors.get(file), config)


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs calls this for every page: put the help of all commands where the mark stands."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, "\n\n".join(map(_section, commands())))


def _section(command: Command) -> str:
    as_module = f"Also `python -m {command.module}`.\n\n" if command.door else ""
    return f"## {command.name}\n\n{as_module}```text\n{command.help()}\n```"
