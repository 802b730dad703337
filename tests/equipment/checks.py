"""The eight checks of ``python -m benchmarks.endurance``, by name, and what they found before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks.run.frames import drawn_drive
from benchmarks.studies.case import Case
from benchmarks.studies.untrained import bundle
from tests.equipment.cameras import cameras
from tests.equipment.check import Check
from tests.equipment.damage import damaged
from tests.equipment.flow import live, long_run
from tests.equipment.processes import disk_full, killed, terminated
from tests.equipment.videos import remuxed, small_video
from tests.equipment.viewers import viewers

if TYPE_CHECKING:
    from benchmarks.endurance import Endurance


def checks(config: Endurance) -> dict[str, Callable[[], list[Check]]]:
    """What each check does; bundles and videos are made when one first needs them."""
    out = config.out.resolve()

    def exported(case: str) -> Path:
        return bundle(Case.parse(case), "int8", out, force=False)

    def fast() -> Path:
        return exported(config.case)

    def small() -> Path:
        return small_video(out / "small.mp4", 300)

    def street() -> Path:
        return drawn_drive(out / "street.mp4", 150)

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


def earlier(report: Path) -> dict[str, list[Check]]:
    """What ``report`` holds from before, by check, where it is one."""
    try:
        found = msgspec.json.decode(report.read_bytes())["checks"]
        return msgspec.convert(found, dict[str, list[Check]])
    except (OSError, LookupError, TypeError, msgspec.MsgspecError):
        return {}
