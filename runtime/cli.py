"""One way to run every command: a dataclass is the command line, errors become one line."""

from __future__ import annotations

import errno
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn, TypeVar

import tyro
from rich.console import Console

from runtime import files
from runtime.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    HedgeError,
    MissingExtraError,
    OutputError,
)

Config = TypeVar("Config")

# Results go to stdout, so that they can be piped; progress and complaints go to stderr.
# A file or a pipe gets 120 columns, not the 80 that tables and paths do not fit into.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 120)

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}

EXIT_CODES = (
    "Exit codes: 0 done, 2 bad input or usage, 3 input shorter than it promised, "
    "4 quality gate not met, 5 output not writable, 130 interrupted."
)


def run(
    config: type[Config],
    main: Callable[[Config], int | None],
    prog: str,
    arguments: Sequence[str] | None = None,
) -> NoReturn:
    """Parse the command line into ``config``, run ``main`` and exit with its documented code.

    arguments: the command line; default ``sys.argv[1:]``.
    """
    sys.exit(exit_code(lambda: main(parse(config, prog, arguments))))


def exit_code(work: Callable[[], int | None]) -> int:
    """Do ``work``; its exit code, or that of the error that ended it, told in one line."""
    try:
        return work() or EXIT_OK
    except HedgeError as error:
        return fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return fail("interrupted", EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        return fail(f"{error.filename or 'output'}: {error.strerror}", OutputError.exit_code)


def parse(config: type[Config], prog: str, arguments: Sequence[str] | None = None) -> Config:
    """The command line as a ``config``; exits after ``--help``, or with 2 on a wrong option."""
    description = f"{inspect.getdoc(config)}\n\n{EXIT_CODES}"
    try:
        return tyro.cli(config, prog=prog, description=description, args=arguments)
    except BrokenPipeError:  # --help | head: leave as the Console does, without a traceback
        out.on_broken_pipe()
        raise


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours in a process of its own, whatever folder it is in.

    ``python -m`` would look in the current folder first, where somebody's own ``train.py`` may be.
    """
    root = str(Path(__file__).resolve().parents[1])
    code = (
        f"import runpy, sys; sys.path[0] = {root!r}; sys.argv[0] = {module!r}; "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-c", code, *arguments]


def require(libraries: tuple[str, ...], extra: str) -> None:
    """Raise MissingExtraError, which tells how to install them, where ``libraries`` are missing.

    Called by packages as they are imported, since nothing in them works without.
    """
    missing = [name for name in libraries if not find_spec(name)]
    if not missing:
        return
    fix = f"pip install 'hedge-seg[{extra}]'"
    error = MissingExtraError(f"{', '.join(missing)} not installed; {fix}")
    if sys.argv[0] == "-m":  # ``python -m`` imports the package before the command can catch it
        sys.exit(fail(str(error), error.exit_code))
    raise error


def say(text: str, to: Console = out, style: str | None = None) -> None:
    """Print ``text`` as it is: a path is never broken in two, and brackets mean nothing."""
    to.print(text, style=style, markup=False, soft_wrap=True)


def fail(message: str, code: int) -> int:
    """Print ``message`` as the one line of an error and return ``code``."""
    say(f"error: {_line(message)}", err, "bold red")
    return code


def warn(message: str) -> None:
    """Print ``message`` as one line that does not stop the command."""
    say(f"warning: {_line(message)}", err, "yellow")


def _line(message: str) -> str:
    return files.printable(" ".join(message.split()))
