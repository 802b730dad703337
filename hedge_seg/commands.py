"""The commands of ``hedge``: a row each, and shell completion made from the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_type_hints

from hedge_seg import load

Shell = Literal["bash", "zsh", "fish"]
SHELLS: tuple[Shell, ...] = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class Command:
    """A command's module, the dataclass in it that is the command line, and one line of help."""

    module: str
    config: str
    help: str

    def run(self, prog: str, arguments: Sequence[str]) -> int | None:
        """Parse ``arguments`` and do the work; what the command's ``main`` returns or raises."""
        from runtime import cli

        config, main = self.load()
        return main(cli.parse(config, prog, arguments))

    def load(self) -> tuple[type, Callable[[Any], int | None]]:
        """The command line and what runs it; ImportError names an extra that is missing."""
        module = load(self.module)
        return getattr(module, self.config), module.main


COMMANDS: dict[str, Command] = {
    "train": Command("train.__main__", "TrainConfig", "train a segmentation model"),
    "export": Command("export.__main__", "Export", "turn a run into verified bundles"),
    "video": Command("runtime.video", "VideoConfig", "segment a video, images or a camera"),
    "fleet": Command("runtime.fleet.__main__", "FleetConfig", "segment videos on many machines"),
    "doctor": Command("runtime.doctor.__main__", "Doctor", "tell what works here, what is missing"),
    "bench": Command("benchmarks.__main__", "Benchmark", "measure bundles beside their peers"),
    "check": Command("train.check", "Check", "list everything wrong with a data set"),
    "evaluate": Command("train.evaluate", "Evaluate", "mIoU and boundary F of a run"),
    "release": Command("train.release", "Release", "write a checkpoint to hand on"),
    "edges": Command("train.edges", "Edges", "draw the edge maps of a folder"),
    "draw": Command(
        "train.datasets.synthetic.__main__", "SyntheticConfig", "draw a data set and a drive"
    ),
    "train-edges": Command("train.hed.__main__", "HedConfig", "train an edge network"),
    "evaluate-edges": Command(
        "train.hed.evaluate", "EvaluateEdges", "ODS and OIS of an edge network"
    ),
    "ablation": Command("benchmarks.ablation", "Ablation", "train designs alike and compare"),
    "speed": Command("benchmarks.speed", "Speed", "time untrained models in every engine"),
    "pipeline": Command("benchmarks.pipeline", "Pipeline", "time the whole pipeline"),
    "gpu": Command("benchmarks.gpu", "Gpu", "measure everything on an NVIDIA GPU at once"),
}


def completion(shell: Shell) -> str:
    """A script that completes ``hedge`` in ``shell``: commands, their options, then files.

    Commands whose extra is not installed are completed without options.
    """
    options = {name: " ".join(_options(command)) for name, command in COMMANDS.items()}
    if shell == "fish":
        lines = [
            f"complete -c hedge -n __fish_use_subcommand -a {name} -d '{command.help}'"
            for name, command in COMMANDS.items()
        ]
        lines += [
            f"complete -c hedge -n '__fish_seen_subcommand_from {name}' -l {flag[2:]}"
            for name, flags in options.items()
            for flag in flags.split()
        ]
        return "\n".join(lines) + "\n"
    cases = "\n".join(f"    {name}) words='{flags}' ;;" for name, flags in options.items())
    zsh = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return f"""{zsh}_hedge() {{
  local words='{" ".join([*COMMANDS, "--help", "--version"])}'
  [ "$COMP_CWORD" -gt 1 ] && case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _hedge hedge
"""


def _options(command: Command) -> list[str]:
    import tyro  # not at the start: ``hedge --help`` needs none of it

    try:
        config, _ = command.load()
    except ImportError:
        return ["--help"]
    hints = get_type_hints(config, include_extras=True)
    names = []
    for field in fields(config):
        extras = getattr(hints[field.name], "__metadata__", ())
        if tyro.conf.Positional not in extras:  # what is positional is a file, or the user's own
            own = (getattr(extra, "name", None) for extra in extras)
            names.append(next(filter(None, own), field.name.replace("_", "-")))
    return [*(f"--{name}" for name in names), "--help"]
