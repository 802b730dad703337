"""Errors become one line and a documented exit code; our own bugs as well."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from rich.table import Table

from runtime import cli, files
from runtime.config import VideoConfig
from runtime.errors import GateError, HedgeError, IncompleteError, OutputError
from runtime.interrupt import check_interrupt
from runtime.numbers import Share, Side, check_numbers


@dataclass(frozen=True)
class Config:
    """Do nothing."""

    count: int = 1


def run_with(error: BaseException | int | None, monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    """The exit code of a command whose main raises or returns ``error``."""

    def main(config: Config) -> int | None:
        if isinstance(error, BaseException):
            raise error
        return error

    monkeypatch.setattr("sys.argv", ["prog", *args])
    with pytest.raises(SystemExit) as ended:
        cli.run(Config, main, "prog")
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HedgeError("x"), 2),
        (IncompleteError("x"), 3),
        (GateError("x"), 4),
        (OutputError("x"), 5),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left", "x"), 5),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 5),
    ],
)
def test_an_error_is_one_line_and_its_code(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_with(error, monkeypatch) == code
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_long_message_of_several_lines_stays_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_with(HedgeError("[bold] a\n  b " + "x" * 300), monkeypatch)
    assert capsys.readouterr().err == f"error: [bold] a b {'x' * 300}\n"


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (130, 130)])
def test_a_result_is_the_code(
    result: int | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_with(result, monkeypatch) == code


def test_a_closed_output_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in ("sys.stdout", "sys.stderr"):  # what Python makes of >&- and 2>&-
        monkeypatch.setattr(stream, None)
        assert run_with(None, monkeypatch) == 0


@pytest.mark.parametrize("bug", [ZeroDivisionError("by zero"), RecursionError(), KeyError("a\nb")])
def test_a_fault_of_ours_is_one_line_its_own_code_and_a_kept_trace(
    bug: Exception,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_with(bug, monkeypatch) == 70
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: unexpected {type(bug).__name__}: ")
    assert printed.count("\n") == 1
    [kept] = tmp_path.iterdir()
    assert str(kept) in printed and "Traceback" in kept.read_text()


@pytest.mark.parametrize(
    "place", ["rtsp://admin:secret@cam/live", "http://cam/x?token=secret", "admin:secret@cam/live"]
)
def test_a_trace_to_be_reported_holds_no_password_of_a_camera(
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["hedge", "video", place])
    told = "rtsp://admin:secret@cam/x?token=secret"  # as the error of a library holds it

    def work() -> int:
        raise KeyError(told)

    assert cli.exit_code(work) == 70
    [kept] = tmp_path.iterdir()
    assert "secret" not in kept.read_text() + capsys.readouterr().err
    assert "cam" in kept.read_text().splitlines()[0]


@pytest.mark.parametrize("error", [
    FileNotFoundError(errno.ENOENT, "No such file", "/x/y"),
    IsADirectoryError(errno.EISDIR, "Is a directory", "/x/y"),
    OSError(errno.EIO, "Input/output error", "/x/y"),
])  # fmt: skip
def test_an_error_of_the_system_names_its_file(
    error: OSError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(error, monkeypatch) == 2
    assert capsys.readouterr().err == f"error: /x/y: {error.strerror}\n"


def test_of_a_copy_the_full_disk_is_named_and_not_the_file_that_is_copied(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/here/x", None, "/full/y")
    assert run_with(error, monkeypatch) == 5
    assert capsys.readouterr().err == "error: /full/y: No space left on device\n"


def test_wrong_usage_is_code_2_and_help_tells_all_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(None, monkeypatch, "--count", "many") == 2
    assert run_with(None, monkeypatch, "--help") == 0
    assert "Exit codes" in capsys.readouterr().out


@dataclass(frozen=True)
class Relaxed:
    """Nothing is needed."""

    out: Path | None = None
    """Where to write, in a sentence that the source
    (as here) breaks."""
    size: tuple[int, int] | None = None
    """H W."""
    kind: Literal["a", "b"] | None = None
    """Which."""
    names: tuple[str, ...] = ()
    """Of classes."""
    decay: float | None = 0.5
    """Or None."""


def test_help_reads_as_sentences_and_what_may_be_left_out_as_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        cli.parse(Relaxed, "prog", ["--help"])
    told = [" ".join(line.strip("│ ").split()) for line in capsys.readouterr().out.splitlines()]
    assert "--out PATH Where to write, in a sentence that the source (as here) breaks." in told
    assert "--size INT INT H W." in told and "--kind {a,b} Which." in told
    assert "--names [STR [STR ...]] Of classes." in told
    assert "--decay FLOAT Or None. (default: 0.5)" in told


def test_none_is_taken_where_it_means_something() -> None:
    assert cli.parse(Relaxed, "prog", ["--decay", "None", "--size", "3", "4"]) == Relaxed(
        size=(3, 4), decay=None
    )


def test_help_for_a_reader_that_leaves_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "runtime.video", "--help"]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")


@pytest.mark.parametrize("count", ["1_000", "nan", "inf", "1e3", "9" * 40, "٣", ""])
def test_what_is_no_plain_number_is_refused(
    count: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(None, monkeypatch, "--count", count) == 2


@dataclass(frozen=True)
class Ranged:
    """Numbers with ranges."""

    share: Share = 0.0
    sides: tuple[Side, Side] | None = None
    free: float = 1.0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--share", "1"], "--share 1.0: give a number from 0 and below 1"),
        (["--sides", "32", "31"], "--sides 31: give a number from 32 to 16384"),
        (["--free", "nan"], "nan"),
        (["--free", "-inf"], "inf"),
    ],
)
def test_a_number_has_its_range(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(Ranged, lambda config: None, "prog", line)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    if "nan" in line:
        with pytest.raises(HedgeError, match="--free nan: give a number that is finite"):
            check_numbers(Ranged(free=float("nan")))


@dataclass(frozen=True)
class Listing:
    """Options of several values, also of a part."""

    names: tuple[str, ...] = ()
    size: tuple[int, int] = (1, 1)
    part: Relaxed = field(default_factory=Relaxed)


def test_several_values_are_given_at_one_place() -> None:
    told = cli.parse(Listing, "prog", ["--size", "1", "2", "--size", "3", "4", "--names", "a", "b"])
    assert told.names == ("a", "b") and told.size == (3, 4), "of one value the last one holds"
    for option in ("--names", "--part.names"):
        for second in ([option, "c"], [f"{option}=c"]):
            with pytest.raises(HedgeError, match=f"^{option} is given more than once; name all"):
                cli.parse(Listing, "prog", [option, "a", *second])


HOSTILE = "[red]x[/red]\x1b[2J\x1b]0;t\x07"


def test_a_name_is_text_wherever_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
    table.add_row(HOSTILE)
    cli.out.file = cli.err.file = None  # the streams of now, which are captured
    cli.out.print(table)
    cli.say(HOSTILE)
    cli.warn(HOSTILE)
    assert list(cli.track(range(2), HOSTILE)) == [0, 1]
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "[red]x[/red]" in text.replace("\n", "")
        assert "\x1b[2J" not in text and "\x1b]0" not in text and "\x07" not in text


def test_a_terminal_without_the_signs_gets_escapes(tmp_path: Path, bundle: Path,
    make_clip: Callable[..., Path],
) -> None:  # fmt: skip
    clip = make_clip(tmp_path / "→ ü.mp4")
    out = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "runtime.video", clip, "--bundle", bundle, "--out", out]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u2192" in done.stdout and out.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_library_swallows_still_ends_the_command(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def swallows(config: Config) -> None:
        with suppress(KeyboardInterrupt):  # as a compiler's callback does
            signal.raise_signal(number)
        check_interrupt()
        pytest.fail("the run went on")

    with pytest.raises(SystemExit) as ended:
        cli.run(Config, swallows, "prog", [])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_path_of_a_dash_is_standard_output_for_json_alone() -> None:
    assert not files.asks_stdout(VideoConfig("x.mp4", json=Path("r.json")))
    assert files.asks_stdout(VideoConfig("-", json=Path("-")))
    assert files.asks_stdout(VideoConfig("x.mp4", metrics=Path("-")))
    with pytest.raises(HedgeError, match="--save-labels -: is no file"):
        files.asks_stdout(VideoConfig("x.mp4", json=Path("-"), save_labels=Path("-")))
    with pytest.raises(HedgeError, match="--json -: each source has its own"):
        VideoConfig("x.mp4", json=Path("-"), more=("y.mp4",)).parts()


def test_a_signal_while_a_command_is_imported_is_one_line(tmp_path: Path) -> None:
    """PyAV raises it as it is imported, where ``python -m`` has run none of the command yet."""
    (tmp_path / "av.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}"}
    command = [sys.executable, "-m", "runtime.video", "x.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")
