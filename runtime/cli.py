"""One way to run every command: a dataclass is the command line, errors become one line."""

from __future__ import annotations

import errno
import inspect
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import is_dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, get_args

from rich.console import Console
from rich.text import Text

from runtime import files
from runtime.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_UNREAD,
    HedgeError,
    MissingExtraError,
    OutputError,
)
from runtime.interrupt import lasting_streams, raising_interrupt
from runtime.numbers import check_lists, check_numbers
from runtime.web.hidden import command_line, without_secrets

if TYPE_CHECKING:
    from tyro.constructors import (
        PrimitiveConstructorSpec,
        PrimitiveTypeInfo,
        StructConstructorSpec,
        StructTypeInfo,
    )

Config = TypeVar("Config")
Item = TypeVar("Item")
_LARGEST = 1e12  # of a number on a command line: beyond it nothing here means anything


class _Console(Console):
    """A console to which names are text: no markup, and control codes as escapes."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(_shown(text), **options)


def _console(stderr: bool) -> Console:
    # A file or a pipe gets 120 columns, not the 80 that tables and paths do not fit into.
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream is not None and stream.isatty() else 120
    return _Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


# Results go to stdout, so that they can be piped; progress and complaints go to stderr.
out, err = _console(stderr=False), _console(stderr=True)

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}

EXIT_CODES = (
    "Exit codes: 0 done, 1 the reader of the output left, 2 bad input or usage, 3 input shorter "
    "than it promised, 4 quality gate not met, 5 output not writable, 6 an alarm rang, "
    "70 a fault of Hedge, 130 interrupted."
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
    lasting_streams()
    try:
        with raising_interrupt():
            code = work() or EXIT_OK
            if sys.stdout is not None:  # closed, as by >&- or a daemon
                sys.stdout.flush()
            return code
    except HedgeError as error:
        return fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:  # whoever read the output has left; nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNREAD
    except OSError as error:
        unwritable = error.errno in _UNWRITABLE
        code = OutputError.exit_code if unwritable else HedgeError.exit_code
        name = (unwritable and error.filename2) or error.filename  # of a copy, where it goes
        where = f"{name}: " if name else ""
        return fail(f"{where}{error.strerror or error}", code)
    except Exception as error:
        what = f"unexpected {type(error).__name__}: {without_secrets(str(error))[:200]}"
        return fail(f"{what}; {_kept_trace()}", EXIT_BUG)


def _kept_trace() -> str:
    """Write the trace of the error that is being handled to a file; where it is."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="hedge-trace-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            # People are asked to send it: what a camera's address holds is none of it.
            file.write(f"{command_line(sys.argv)}\n{without_secrets(traceback.format_exc())}")
    except OSError:
        traceback.print_exc()
        return "a fault of Hedge; its trace is above"
    return f"a fault of Hedge; please report it with {file.name}"


def parse(config: type[Config], prog: str, arguments: Sequence[str] | None = None) -> Config:
    """The command line as a ``config``; exits after ``--help``, or with 2 on a wrong option.

    A config may have a class method ``given``: of the arguments, what options are that are not
    among them; None, or no such method, for their defaults.
    """
    import tyro  # not at the start: who has no command line needs none of it
    from tyro.constructors import ConstructorRegistry

    given: Callable[[Sequence[str]], Config | None] | None = getattr(config, "given", None)
    words = list(sys.argv[1:] if arguments is None else arguments)
    check_lists(config, words)
    default = given(words) if given else None
    description = _flowed(f"{inspect.getdoc(config)}\n\n{EXIT_CODES}")
    rules = ConstructorRegistry()
    rules.primitive_rule(_number)
    rules.primitive_rule(_Once(_without_none))
    rules.struct_rule(_Once(_readable))
    try:
        with rules:
            read = partial(tyro.cli, config, prog=prog, description=description, args=words)
            parsed = read() if default is None else read(default=default)
        check_numbers(parsed)
        if files.asks_stdout(parsed):
            out.stderr, out.width = True, err.width
        return parsed
    except BrokenPipeError:  # --help | head: leave as the Console does, without a traceback
        out.on_broken_pipe()
        raise


def argument(arguments: Sequence[str], option: str) -> str | None:
    """What an ``option`` that takes one word is given on a command line; None where it is not."""
    found = None
    for word, following in zip(arguments, [*arguments[1:], "--"], strict=False):
        if word == option and not following.startswith("--"):
            found = following
        elif word.startswith(f"{option}="):
            found = word.removeprefix(f"{option}=")
    return found


def _number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[float] | None:
    """Numbers as people write them: finite, and without the underscores of Python's source."""
    kind = info.type
    if kind is not int and kind is not float:
        return None
    from tyro.constructors import PrimitiveConstructorSpec

    def read(words: list[str]) -> float:
        value = kind(words[0]) if words[0].isascii() and "_" not in words[0] else None
        if value is None or not abs(value) <= _LARGEST:
            raise ValueError(f"{words[0]}: give a plain number of at most {_LARGEST:.0e}")
        return value

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


class _Once:
    """A rule that changes what the other rules answer: for what it asks itself, it is none."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        self._change = change
        self._asked: object = None

    def __call__(self, info: Any) -> Any:
        if info is self._asked:
            return None
        self._asked = info
        try:
            return self._change(info)
        finally:
            self._asked = None


def _without_none(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """An option that may be left out is told as PATH, not as {None}|PATH; None is still taken."""
    if type(None) not in get_args(info.type):
        return None
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    spec = ConstructorRegistry.get_primitive_spec(info)
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None
    told = spec.metavar.removeprefix("{None}|").replace("{None,", "{", 1)
    several = told.startswith("{") and " " in told  # {INT INT}
    return replace(spec, metavar=told[1:-1] if several else told)


def _readable(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Options in sentences, not in the lines of the source, and without a default of nothing."""
    if not is_dataclass(info.type):
        return None
    import tyro
    from tyro.constructors import ConstructorRegistry, StructConstructorSpec

    spec = ConstructorRegistry.get_struct_spec(info)
    if not isinstance(spec, StructConstructorSpec):
        return None
    unsaid = tyro.conf.arg(help_behavior_hint="")
    fields = []
    for field in spec.fields:
        text = field.helptext
        told = partial(_told, text) if callable(text) else _flowed(text or "")
        empty = field.default is None or field.default == () or field.default == ""
        kind: Any = Annotated[field.type, unsaid] if empty else field.type
        fields.append(replace(field, helptext=told, type=kind))
    return replace(spec, fields=tuple(fields))


def _told(text: Callable[[], str | None]) -> str:
    return _flowed(text() or "")


def _flowed(text: str) -> str:
    """Paragraphs of ``text``, each one line, which the terminal's width breaks."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


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


def track(
    items: Iterable[Item], title: str, total: int | None = None, transient: bool = False
) -> Iterator[Item]:
    """Iterate over ``items`` with a bar on stderr; ``title`` is text, not markup.

    total: how many there are; default their length.
    """
    from rich.progress import (  # not at the start: only who waits sees it
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    if total is None and isinstance(items, Sized):
        total = len(items)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=err, transient=transient) as bar:
        yield from bar.track(items, total=total, description=_shown(title))


def say(text: str, to: Console = out, style: str | None = None) -> None:
    """Print ``text`` as it is: a path is never broken in two, and brackets mean nothing."""
    to.print(_shown(text), style=style, soft_wrap=True)


def fail(message: str, code: int) -> int:
    """Print ``message`` as the one line of an error and return ``code``."""
    say(f"error: {_line(message)}", err, "bold red")
    return code


def warn(message: str) -> None:
    """Print ``message`` as one line that does not stop the command."""
    say(f"warning: {_line(message)}", err, "yellow")


def _line(message: str) -> str:
    return files.printable(" ".join(message.split()))


def _shown(text: str) -> str:
    """``text`` without control codes, which a name may hold to move the cursor or worse."""
    return "\n".join(files.printable(line) for line in text.split("\n"))
