"""The errors a user can act on, and the exit code each one ends a command with."""

from __future__ import annotations

EXIT_OK = 0
EXIT_UNREAD = 1  # whoever read the output left before its end
EXIT_BUG = 70  # sysexits' EX_SOFTWARE: what nobody foresaw, always a fault of ours
EXIT_INTERRUPTED = 130  # the shell's convention for SIGINT


class HedgeError(ValueError):
    """Bad input or usage: one line that names the file, the cause and the fix."""

    exit_code = 2


class MissingExtraError(HedgeError, ImportError):
    """A library is not installed; the message names the extra that brings it."""


class IncompleteError(HedgeError):
    """Everything readable was processed, but the input held less than it promised."""

    exit_code = 3


class GateError(HedgeError):
    """A quality gate (parity, mIoU) was not met; nothing was published."""

    exit_code = 4


class OutputError(HedgeError):
    """A result could not be written: no space, no permission, or it already exists."""

    exit_code = 5


class AlarmError(HedgeError):
    """All went well, and an alarm rang."""

    exit_code = 6


def one_line(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
