"""Errors become one line and a documented exit code; only our own bugs show a traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from runtime import cli
from runtime.errors import GateError, HedgeError, IncompleteError, OutputError


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


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    for bug in (ZeroDivisionError(), FileNotFoundError(errno.ENOENT, "missing")):
        monkeypatch.setattr("sys.argv", ["prog"])
        with pytest.raises(type(bug)):
            cli.run(Config, _raiser(bug), "prog")


def _raiser(error: Exception):  # noqa: ANN202
    def main(config: Config) -> int:
        raise error

    return main


def test_wrong_usage_is_code_2_and_help_tells_all_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(None, monkeypatch, "--count", "many") == 2
    assert run_with(None, monkeypatch, "--help") == 0
    assert "Exit codes" in capsys.readouterr().out


def test_help_for_a_reader_that_leaves_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "runtime.video", "--help"]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")
