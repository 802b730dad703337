"""``hedge``: one door to every command. A script leaves the current folder off the path."""

from __future__ import annotations

import difflib
import sys
from typing import NoReturn

from hedge_seg import __version__, require_own_packages
from hedge_seg.commands import COMMANDS, SHELLS, completion

USAGE = """usage: hedge COMMAND [options]

{rows}

hedge COMMAND --help tells a command's options and its exit codes.
hedge --version; hedge --completion bash|zsh|fish prints a completion script."""


def main() -> NoReturn:
    """The console script; exits with the command's documented code."""
    try:
        require_own_packages()
        from runtime import cli
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        command = COMMANDS[name]
        sys.exit(cli.exit_code(lambda: command.run(f"hedge {name}", arguments)))
    sys.exit(_answer(name, arguments))


def _answer(name: str, arguments: list[str]) -> int:
    """What is asked of ``hedge`` itself; its exit code."""
    from runtime import cli

    if name in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        rows = "\n".join(f"  {key:{width}}  {row.help}" for key, row in COMMANDS.items())
        cli.say(USAGE.format(rows=rows))
        return 0
    if name == "--version":
        cli.say(f"hedge {__version__}")
        return 0
    if name == "--completion":
        shells = [shell for shell in SHELLS if arguments == [shell]]
        if shells:
            print(completion(shells[0]), end="")
            return 0
        return cli.fail("--completion takes bash, zsh or fish", 2)
    near = difflib.get_close_matches(name, COMMANDS, 1)
    guess = f"; did you mean {near[0]}?" if near else ""
    return cli.fail(f"no command {name}{guess} (hedge --help lists them)", 2)


if __name__ == "__main__":
    main()
