"""Every command that a document shows is one that the real command line takes."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest

from docs.commands import COLUMNS, commands
from hedge_seg.commands import COMMANDS as DOORS
from hedge_seg.commands import SHELLS
from runtime.errors import HedgeError

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = {command.module: command for command in commands()}
BY_DOOR = {command.door: command for command in COMMANDS.values() if command.door}
# No dataclass, or none of the product's.
WITHOUT_PARSER = {
    "benchmarks.schema", "mkdocs", "pytest", "tests.fuzz", "tests.runtime.fleet.faults", "venv",
}  # fmt: skip
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:python -m|hedge|make) [^`]+)`(?!`)")
NOT_SHELL = {"python", "json", "text"}


def shown(text: str) -> Iterator[tuple[str, bool]]:
    """The commands of a document: lines of its blocks, and spans within its sentences.

    The flag: whether it must be whole. A span without options only names a command.
    """
    for _, language, block in FENCE.findall(text):
        if language not in NOT_SHELL:
            yield from ((line.strip(), True) for line in block.replace("\\\n", " ").splitlines())
    for span in INLINE.findall(FENCE.sub("", text)):
        yield " ".join(span.split()), False


def calls(line: str) -> Iterator[list[str]]:
    """The simple commands of a line of shell, as words: without prompt, comments, variables."""
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word and set(word) <= set("|&;"):
            yield words
            words = []
        elif word not in {"…", "<", ">", ">>"} and (words or not re.match(r"[A-Z_]+=", word)):
            words.append(word)


def check(words: list[str], whole: bool) -> None:
    """Raise what the command line raises; AssertionError for what is no command of ours."""
    if "-m" in words[:4] and words[0].split("/")[-1] in {"python", "python3", "torchrun", "ssh"}:
        module, *arguments = words[words.index("-m") + 1 :] or [""]
        if module == "pip":
            check([module, *arguments], whole)
        elif module and module not in COMMANDS:
            assert module in WITHOUT_PARSER and find_spec(module), f"no command {module}"
        elif module and (arguments or whole):
            COMMANDS[module].parse(arguments)
    elif words[0].split("/")[-1] == "hedge":
        name, *arguments = words[1:] or ["--help"]
        if name == "--completion":
            assert arguments[0] in SHELLS, f"no completion for {arguments}"
        elif name not in {"--help", "--version"}:
            assert name in BY_DOOR, f"no command hedge {name}"
            if (arguments or whole) and arguments != ["--help"]:
                BY_DOOR[name].parse(arguments)
    elif words[0] == "ssh":
        check(words[2:], whole)
    elif words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), f"no target {words[1:]}"
    elif words[:2] == ["pip", "install"]:
        extras = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
        for named in re.findall(r"\[([\w,-]+)\]", " ".join(words)):
            assert set(named.split(",")) <= set(extras), f"no extra {named}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_document_are_understood(path: Path) -> None:
    for line, whole in shown(path.read_text(encoding="utf-8")):
        _require(line, str(path), whole)


def test_every_command_of_the_front_door_is_known() -> None:
    assert BY_DOOR.keys() == DOORS.keys()
    table = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert all(f"`{command.name}`" in table for command in COMMANDS.values())


def test_the_reference_shows_all_that_help_prints() -> None:
    text = COMMANDS["runtime.video"].help()
    assert "Of files every frame is processed" in " ".join(text.split())
    assert "Exit codes: 0 done" in text
    example = (
        "python -m runtime.video rtsp://user@camera/live --password-file secret --out overlay.mp4"
    )
    lines = text.splitlines()
    assert example in lines
    assert max(len(line) for line in lines if not line.startswith("python")) <= int(COLUMNS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_help_are_understood(name: str) -> None:
    text = inspect.getdoc(COMMANDS[name].config) or ""
    for line in re.findall(
        r"^(?:Example: |Then: )?((?:python -m|hedge|torchrun) .*?)(?:  .*)?$", text, re.M
    ):
        _require(line, name)


def test_the_demo_is_understood_and_says_what_comes_next() -> None:
    dry = subprocess.run(
        ["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = dry.stdout.replace("\\\n", " ").splitlines()
    steps = [line for line in lines if " -m " in line or "/hedge " in line]
    for line in steps:
        _require(line.removeprefix('echo "').removesuffix('"').strip(), "make demo")
    assert "YOUR.mp4" in steps[-1]


@pytest.mark.parametrize(
    "line",
    [
        "python -m train --epoch-count 3",
        "hedge train --epoch-count 3",
        "hedge trane",
        "hedge check",
        "hedge --completion tcsh",
        "python -m train.nothing --data x",
        "python -m runtime.video a.mp4 | python -m export --int9",
        "ssh box python -m export --size 3",
        "HEDGE_TOKEN=x python -m runtime.video a.mp4 --serve port",
        "make everything",
        "pip install '.[everything]'",
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        _require(line, "a document")


def _require(line: str, where: str, whole: bool = True) -> None:
    for words in filter(None, calls(line)):
        said = StringIO()
        try:
            with redirect_stdout(said), redirect_stderr(said):
                check(words, whole)
        except (AssertionError, HedgeError, SystemExit) as error:
            raise AssertionError(f"{where}: {line}\n{error}\n{said.getvalue()}") from None
