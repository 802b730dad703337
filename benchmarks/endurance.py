"""``python -m benchmarks.endurance``: what the streaming runtime does when the world misbehaves."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
from rich.table import Table

from benchmarks.host.machine import machine
from export import LIBRARIES
from runtime import cli, files
from runtime.bundle.manifest import BUNDLES
from runtime.errors import EXIT_OK, GateError, HedgeError

if TYPE_CHECKING:
    from tests.equipment.check import Check

Name = Literal["live", "long", "cameras", "kill", "term", "disk", "viewers", "damage"]
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Endurance:
    """Live age, lost frames, leaks, cameras that fail, killed and terminated runs, a full disk, web
    clients that never read, damaged videos: one table.

    Each line states its own bound, and the command ends with 4 when one is not met. All of it
    takes ten minutes; --checks runs a part, and report.json keeps what the others found before.
    The servers and the faults are the tests' own, so this runs in a checkout of the repository.

    Examples:

    python -m benchmarks.endurance --checks live long cameras

    python -m benchmarks.endurance --frames 2000 --mutations 50
    """

    checks: tuple[Name, ...] = get_args(Name)
    """Which of them."""
    case: str = "mobilenet_v2:vanilla:96x160"
    """BACKBONE:VARIANT:HEIGHTxWIDTH of the fast network."""
    viewers_case: str = "mobilenet_v2:dlse:512x896"
    """The network that web clients watch."""
    slow_case: str = "mobilenet_v2:dlse:1152x2048"
    """The network of the live check, which a 30 fps source is too fast for."""
    frames: int = 10_000
    """Frames of the long run."""
    cycles: int = 20
    """Faults of the camera."""
    kills: int = 20
    """How often a writing process is killed; half as often it is asked to end."""
    rounds: int = 5
    """How often the stream runs with web clients, and without."""
    mutations: int = 300
    """Damaged videos."""
    out: Path = BUNDLES / "endurance"
    """Folder of the bundles, of what is written, and of report.json."""


def main(config: Endurance) -> int:
    """The command. HedgeError: a count below 2, or no test equipment beside this package."""
    if min(config.frames, config.cycles, config.kills, config.rounds, config.mutations) < 2:
        raise HedgeError("--frames, --cycles, --kills, --rounds and --mutations are at least 2")
    _find_equipment()
    cli.require((*LIBRARIES, "starlette", "uvicorn", "prometheus_client"), "benchmarks")
    equipment = importlib.import_module("tests.equipment.checks")
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "report.json"
    found: dict[str, list[Check]] = equipment.earlier(path)
    runs: dict[str, Callable[[], list[Check]]] = equipment.checks(config)
    for name in config.checks:
        found[name] = runs[name]()
        report: dict[str, Any] = {"machine": machine(), "checks": found}
        files.write_bytes(path, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    asked = [check for name in config.checks for check in found[name]]
    cli.out.print(_table(asked))
    cli.say(f"→ {path}")
    failed = [check.name for check in asked if check.passed is False]
    return cli.fail(f"not met: {', '.join(failed)}", GateError.exit_code) if failed else EXIT_OK


def _find_equipment() -> None:
    """Make ``tests.equipment`` of this checkout importable from any folder."""
    equipment = ROOT / "tests" / "equipment"
    if not (equipment / "checks.py").is_file():
        raise HedgeError(
            f"{equipment} is missing: an installed package has no test equipment; run this in a "
            "checkout of the repository"
        )
    sys.path.insert(0, str(ROOT))


def _table(checks: list[Check]) -> Table:
    table = Table("check", "bound", "found", "")
    for check in checks:
        mark = {True: "yes", False: "NO", None: "–"}[check.passed]
        table.add_row(check.name, check.bound, check.found, mark)
    return table


if __name__ == "__main__":
    cli.run(Endurance, main, "python -m benchmarks.endurance")
