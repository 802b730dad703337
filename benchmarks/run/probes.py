"""What is measured once: arrival, energy, batches in flight, accuracy; pictures and stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cells.engine import Figure, InFlight
from benchmarks.cells.process import Child
from benchmarks.results import Accuracy, Arrival, Layers, Worst
from benchmarks.run.frames import Frames
from benchmarks.run.plan import Planned

HZ = 30.0
WORST = 6  # frames with pictures

Mious = dict[int, float]  # of single frames, by number


@dataclass(frozen=True)
class Pace:
    """How much of each cell is measured once: labelled frames, seconds of frames at a fixed rate,
    seconds of full load, frames of the video; and how many cells' video pipelines. 0: nothing."""

    frames: int = 128
    arrival: float = 5.0
    busy: float = 2.0
    video: int = 150
    pipelines: int = 3


TIMES_ONLY = Pace(frames=0, arrival=0.0, busy=0.0)
QUICK = Pace(frames=16, arrival=2.0, busy=1.0, video=40, pipelines=1)


def probes(
    child: Child, planned: Planned, pace: Pace, streams: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    """Fields of the cell's row, as they are measured; streams: batches in flight to try."""
    if pace.arrival:
        longer = pace.arrival
        yield {"arrival": child.ask("arrival", Arrival, longer, hz=HZ, seconds=pace.arrival)}
    if not pace.busy:
        return
    yield {"joules": child.ask("energy", Figure, pace.busy, seconds=pace.busy).value}
    if planned.cell.kind == "bundle":
        yield {"layers": tuple(child.ask("layers", list[Layers]))}
        tried = [
            child.ask("in_flight", InFlight, pace.busy, batches=number, seconds=pace.busy)
            for number in streams
        ]
        best = max((one for one in tried if one.fps), key=lambda one: one.fps or 0, default=None)
        if best is not None:
            yield {"fps_in_flight": best.fps, "in_flight": best.in_flight}


def score(
    child: Child, frames: Frames, tell: Callable[[int], None]
) -> tuple[Accuracy | None, Mious]:
    """The cell's answers to all labelled frames, held against the labels; no accuracy where no
    pixel has one. tell: is told of each frame."""
    mious: Mious = {}
    for number in range(len(frames.scenes)):
        tell(number + 1)
        if (alone := child.ask("score", Figure, frame=number).value) is not None:
            mious[number] = alone
    return (child.ask("scores", Accuracy) if mious else None), mious


def worst(
    child: Child, planned: Planned, frames: Frames, mious: Mious, folder: Path
) -> list[Worst]:
    """The frames with the least mIoU, the worst first, each with its picture in ``folder``."""
    numbers = sorted(mious, key=lambda number: mious[number])[:WORST]
    names = child.ask("pictures", list[str], frames=numbers, folder=str(folder))
    return [
        Worst(planned.cell.name, frames.scenes[number].name, mious[number], name)
        for number, name in zip(numbers, names, strict=True)
    ]
