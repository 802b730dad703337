"""``python -m benchmarks.endurance``: what the streaming runtime does when the world misbehaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
from rich.table import Table

from benchmarks.endurance.cameras import cameras
from benchmarks.endurance.check import Check, remuxed, small_video
from benchmarks.endurance.damage import damaged
from benchmarks.endurance.flow import live, long_run
from benchmarks.endurance.processes import disk_full, killed, terminated
from benchmarks.endurance.viewers import viewers
from benchmarks.host.machine import machine
from benchmarks.pipeline import drawn
from benchmarks.studies.untrained import Case, bundle
from runtime import cli, files
from runtime.bundle.manifest import BUNDLES
from runtime.errors import EXIT_OK, GateError, HedgeError

Name = Literal["live", "long", "cameras", "kill", "term", "disk", "viewers", "damage"]


@dataclass(frozen=True)
class Endurance:
    """Live age, lost frames, leaks, cameras that fail, killed and terminated runs, a full disk, web
    clients that never read, damaged videos: one table.

    Each line states its own bound, and the command ends with 4 when one is not met. All of it
    takes ten minutes; --checks runs a part, and report.json keeps what the others found before.

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
    """The command."""
    if min(config.frames, config.cycles, config.kills, config.rounds, config.mutations) < 2:
        raise HedgeError("--frames, --cycles, --kills, --rounds and --mutations are at least 2")
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "report.json"
    found = _known(path)
    runs = _runs(config)
    for name in config.checks:
        found[name] = runs[name]()
        report: dict[str, Any] = {"machine": machine(), "checks": found}
        files.write_bytes(path, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    asked = [check for name in config.checks for check in found[name]]
    table = Table("check", "bound", "found", "")
    for check in asked:
        mark = {True: "yes", False: "NO", None: "–"}[check.passed]
        table.add_row(check.name, check.bound, check.found, mark)
    cli.out.print(table)
    cli.say(f"→ {path}")
    failed = [check.name for check in asked if check.passed is False]
    return cli.fail(f"not met: {', '.join(failed)}", GateError.exit_code) if failed else EXIT_OK


def _runs(config: Endurance) -> dict[Name, Callable[[], list[Check]]]:
    """What each check does; bundles and videos are made when one first needs them."""
    out = config.out

    def exported(case: str) -> Path:
        return bundle(Case.parse(case), "int8", out, force=False)

    def fast() -> Path:
        return exported(config.case)

    def small() -> Path:
        return small_video(out / "small.mp4", 300)

    def street() -> Path:
        return drawn(out / "street.mp4", 150)

    def containers() -> list[Path]:
        names = ("indexed.mp4", "small.mkv", "small.ts")
        return [small(), *(remuxed(small(), out / name) for name in names)]

    return {
        "live": lambda: live(exported(config.slow_case), street()),
        "long": lambda: long_run(fast(), small(), config.frames),
        "cameras": lambda: cameras(fast(), config.cycles),
        "kill": lambda: killed(fast(), small(), out / "killed", config.kills),
        "term": lambda: terminated(fast(), small(), out / "terminated", -(-config.kills // 2)),
        "disk": lambda: disk_full(fast(), small(), out / "full"),
        "viewers": lambda: viewers(exported(config.viewers_case), street(), config.rounds),
        "damage": lambda: damaged(fast(), containers(), out / "damaged", config.mutations),
    }


def _known(path: Path) -> dict[Name, list[Check]]:
    """What report.json holds from before, where it is one."""
    try:
        report = msgspec.json.decode(path.read_bytes())
        return msgspec.convert(report["checks"], dict[Name, list[Check]])
    except (OSError, LookupError, TypeError, msgspec.MsgspecError):
        return {}


if __name__ == "__main__":
    cli.run(Endurance, main, "python -m benchmarks.endurance")
