"""What is asked of a cell once: accuracy, arrival, energy, batches in flight; pictures, stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.cells.process import Child
from benchmarks.results import Accuracy, Arrival, Stages, Worst
from benchmarks.run.frames import Frames
from benchmarks.run.plan import Planned

HZ = 30.0
WORST = 6  # frames with pictures

Mious = dict[int, float]  # of single frames, by number


@dataclass(frozen=True)
class Pace:
    """How long a run looks at each cell: labelled frames, seconds, frames of the video; and at how
    many cells' video pipelines."""

    frames: int = 128
    arrival: float = 5.0
    busy: float = 2.0
    video: int = 150
    pipelines: int = 3


QUICK = Pace(frames=16, arrival=2.0, busy=1.0, video=40, pipelines=1)


def looks(
    child: Child, planned: Planned, pace: Pace, streams: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    """Fields of the cell's row, as they become known; streams: batches in flight to try."""
    arrival = child.ask("arrival", longer=pace.arrival, hz=HZ, seconds=pace.arrival)
    yield {"arrival": msgspec.convert(arrival, Arrival)}
    yield child.ask("energy", longer=pace.busy, seconds=pace.busy)
    if planned.cell.kind == "bundle":
        tried = [
            child.ask("in_flight", longer=pace.busy, batches=number, seconds=pace.busy)
            for number in streams
        ]
        best = max((t for t in tried if t["fps"]), key=lambda t: t["fps"], default=None)
        if best is not None:
            yield {"fps_in_flight": best["fps"], "in_flight": best["in_flight"]}


def score(
    child: Child, frames: Frames, tell: Callable[[int], None]
) -> tuple[Accuracy | None, Mious]:
    """The cell's answers to all labelled frames, held against the labels; no accuracy where no
    pixel has one. tell: is told of each frame."""
    mious: Mious = {}
    for number in range(len(frames.scenes)):
        tell(number + 1)
        if (alone := child.ask("score", frame=number)["miou"]) is not None:
            mious[number] = alone
    found = child.ask("scores") | {"frames": len(frames.scenes)}
    return (msgspec.convert(found, Accuracy) if mious else None), mious


def worst(
    child: Child, planned: Planned, frames: Frames, mious: Mious, folder: Path
) -> list[Worst]:
    """The frames with the least mIoU, the worst first, each with its picture in ``folder``."""
    numbers = sorted(mious, key=lambda number: mious[number])[:WORST]
    names = child.ask("pictures", frames=numbers, folder=str(folder))["names"]
    return [
        Worst(planned.cell.name, frames.scenes[number].name, mious[number], name)
        for number, name in zip(numbers, names, strict=True)
    ]


def stages(child: Child, planned: Planned, video: Path, pace: Pace, patience: float) -> Stages:
    """The video pipeline with the cell's engine, taken apart."""
    found = child.ask("stages", longer=patience, video=str(video), count=pace.video)
    return Stages(planned.cell.name, video.name, **found)
