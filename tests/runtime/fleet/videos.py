"""Videos that are cut into spans, and the spans of one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from runtime.fleet.plan import Span, Unplanned, plan
from runtime.outputs.video_file import VideoSink
from tests.equipment.videos import make_timed, noise

OPEN_GOP = {"bf": "3", "b_strategy": "0", "sc_threshold": "0", "x264-params": "open-gop=1"}
SECOND = [Fraction(i, 30) for i in range(60)]


def one_of(kind: str, folder: Path) -> Path:
    """A video of 60 frames at 30 a second, with a key frame in every twelve, or so."""
    if kind == "fragmented":
        with VideoSink(folder / "fragmented.mp4", Fraction(10)) as sink:
            for number in range(60):
                sink.write(noise(number))
        return folder / "fragmented.mp4"
    name = "open.mp4" if kind == "open" else f"a.{kind}"
    encoder = OPEN_GOP if kind == "open" else None
    return make_timed(folder / name, SECOND, image=noise, encoder=encoder)


def planned(video: Path, every_s: float) -> list[Span]:
    ((_, spans),) = plan([str(video)], every_s, "")
    assert not isinstance(spans, Unplanned)
    return spans
