"""A fleet of one worker against ``runtime.video``, on the same files in turn.

``python -m benchmarks.studies.fleet_efficiency OUT BUNDLE CORES ROUNDS VIDEO...``

Loading counts in neither.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import msgspec

from runtime import cli
from runtime.config import VideoConfig
from runtime.fleet.__main__ import main as fleet
from runtime.fleet.config import FleetConfig
from runtime.video import main as video


def serial_fps(videos: list[str], bundle: str, cores: int, out: Path) -> float:
    """Frames a second of one process, a file after the other."""
    frames, seconds, report = 0, 0.0, out / "video.json"
    for path in videos:
        asked = VideoConfig(path, Path(bundle), "openvino", threads=cores, overlay=False)
        video(replace(asked, json=report, force=True))
        told = msgspec.json.decode(report.read_bytes())
        frames += told["frames_written"]
        seconds += told["frames_written"] / told["fps"]
    return frames / seconds


def fleet_fps(videos: list[str], bundle: str, cores: int, out: Path) -> float:
    """Frames a second of a fleet with one worker."""
    report = out.with_suffix(".json")
    fleet(FleetConfig(tuple(videos), out, bundle, cores=cores, backend="openvino", json=report))
    told = msgspec.json.decode(report.read_bytes())
    return float(told["frames"] / told["seconds"])


def main(out: Path, bundle: str, cores: int, rounds: int, videos: list[str]) -> None:
    """Both in turn; the ratio of each round, and their median."""
    out.mkdir(parents=True, exist_ok=True)
    ratios = []
    for number in range(rounds):
        serial = serial_fps(videos, bundle, cores, out)
        ours = fleet_fps(videos, bundle, cores, out / f"round{number}")
        ratios.append(ours / serial)
        cli.say(f"video {serial:.2f} fps, fleet {ours:.2f} fps, {ratios[-1]:.3f}")
    cli.say(f"fleet over video: {median(ratios):.3f}, median of {rounds} rounds")


if __name__ == "__main__":
    place, model, count, times, *paths = sys.argv[1:]
    main(Path(place), model, int(count), int(times), paths)
