"""Command lines with nonsense: every option of every command, from the dataclasses themselves."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from hedge_seg.commands import COMMANDS
from runtime import cli
from runtime.errors import EXIT_BUG, HedgeError
from tests.fuzz.mutations import NAMES

# What each command is given to work on, in whose folder it runs. One without a row is only parsed:
# its defaults would work for minutes, as training does on any data.
_ENOUGH_S = 8.0  # after which Ctrl-C ends a command: nonsense may ask for years of work
INPUTS: dict[str, list[str]] = {
    "train": ["--data", "nowhere"],
    "export": ["bundle", "--triton", "triton"],
    "video": ["clip.mp4", "--bundle", "bundle", "--backend", "onnxruntime", "--max-frames", "2"],
    "check": ["."],
    "draw": ["drawn", "--train", "1", "--val", "1", "--size", "32", "32", "--video-frames", "2"],
    "evaluate": ["tiny.pt", "--data", "."],
    "release": ["tiny.pt"],
    "edges": ["--in", ".", "--out", "edges", "--weights", "tiny.pt"],
    "train-edges": ["--data", "nowhere"],
    "evaluate-edges": ["tiny.pt", "--data", "."],
}
_NUMBERS = (
    "0", "1", "2", "-1", "2.5", "1e9", "1e400", "nan", "-inf", "1_000", "0x10", "9" * 20, "1" * 5000
)  # fmt: skip
_PATHS = (
    "clip.mp4", "bundle", "tiny.pt", "classes.json", "train.txt", "bundle/manifest.json", "pipe",
    "link.json", "new.json", "new.mp4", "new/a/b.json", "clip.mp4/x.json", "/dev/null/x.json",
    "/proc/none", "new.\udcff.json", "street19", "http://127.0.0.1:9/x", "rtsp://127.0.0.1:9",
)  # fmt: skip
# No system hands over a zero or half a surrogate pair: what is no text comes as \udc80 to \udcff.
_HANDED_OVER = (name for name in NAMES if not set(name) & set("\0\ud800"))
_WORDS = ("auto", "openvino", "fp32", "val", "true", "None", *_HANDED_OVER)


@dataclass(frozen=True)
class Option:
    """flag: as it is written, "" of a positional one; count: words it takes, -1 for any number."""

    flag: str
    count: int
    takes: str  # its type


def load_commands() -> None:
    """Import what the commands import, and make the parser of each."""
    for command in COMMANDS.values():
        config, _ = command.load()
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            cli.parse(config, "hedge", ["--help"])


def options_of(command: str) -> list[Option]:
    """The options of a command, read from its dataclass."""
    config, _ = COMMANDS[command].load()
    return list(_options(config, ""))


def _options(config: type, prefix: str) -> Iterator[Option]:
    hints = get_type_hints(config, include_extras=True)
    for field in fields(config):
        hint, name = hints[field.name], field.name.replace("_", "-")
        for extra in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
            name = getattr(extra, "name", None) or name
        if hasattr(hint, "__dataclass_fields__"):
            yield from _options(hint, f"{prefix}{name}.")
        elif hint is bool:
            yield from (Option(f"--{prefix}{no}{name}", 0, "") for no in ("", "no-"))
        elif "Positional" in str(hint):
            yield Option("", 1, str(hint))
        else:
            yield Option(f"--{prefix}{name}", -1 if "tuple" in str(hint) else 1, str(hint))


def command_lines() -> st.SearchStrategy[list[str]]:
    """A command with one of its options in most cases, else with up to three."""
    return st.sampled_from(sorted(COMMANDS)).flatmap(_lines_of)


def _lines_of(command: str) -> st.SearchStrategy[list[str]]:
    option = st.sampled_from(options_of(command)).flatmap(_written)
    chosen = option.map(lambda one: [one]) | st.lists(option, min_size=1, max_size=3)
    return chosen.map(lambda parts: [command, *(word for part in parts for word in part)])


def _written(option: Option) -> st.SearchStrategy[list[str]]:
    """The option with words, half of them of its type."""
    # A slash could lead out of the folder in which the command may do what it likes.
    text = st.text(max_size=8).filter(lambda text: not set(text) & set("/\0"))
    near = _PATHS if "Path" in option.takes or "Positional" in option.takes else _WORDS
    near = _NUMBERS if "int" in option.takes or "float" in option.takes else near
    fitting = st.sampled_from(near)
    word = fitting | fitting | st.sampled_from((*_NUMBERS, *_PATHS, *_WORDS)) | text
    least, most = (0, 3) if option.count < 0 else (option.count, option.count)
    flag = [option.flag] if option.flag else []
    return st.lists(word, min_size=least, max_size=most).map(lambda words: [*flag, *words])


def lay_out(folder: Path) -> None:
    """What only a folder can hold: a pipe that nobody reads, and a link to an input."""
    os.mkfifo(folder / "pipe")
    (folder / "link.json").symlink_to(folder / "classes.json")


def command_line(path: Path) -> str:
    """Run the line in a JSON file, in the file's folder; inputs must be the same afterwards."""
    name, *words = json.loads(path.read_bytes())
    told = io.StringIO()
    before, inputs = Path.cwd(), _contents(path.parent)
    os.chdir(path.parent)
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            code = _exit_code(name, words)
    finally:
        os.chdir(before)
    text = told.getvalue()
    if code == EXIT_BUG or "Traceback" in text:
        raise RuntimeError(text)
    lost = [name for name, data in inputs.items() if _contents(path.parent).get(name) != data]
    if lost and "--force" not in words:
        raise AssertionError(f"inputs are overwritten: {lost}")
    if code:
        raise HedgeError(f"exit code {code}: {text}")
    return "done"


def _exit_code(name: str, words: list[str]) -> int:
    command = COMMANDS[name]
    config, _ = command.load()

    def work() -> int | None:
        if name in INPUTS:
            enough = threading.Timer(_ENOUGH_S, os.kill, (os.getpid(), signal.SIGINT))
            enough.start()
            try:
                return command.run(f"hedge {name}", [*INPUTS[name], *words])
            finally:
                enough.cancel()
        cli.parse(config, f"hedge {name}", words)
        return 0

    try:
        return cli.exit_code(work)
    except SystemExit as end:
        return int(end.code or 0)


def _contents(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
