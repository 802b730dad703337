"""Which hardware decodes video here, tried in a process of its own: drivers may crash or hang.

``python -m runtime.doctor.decoding FOLDER`` writes a JSON line for each into the folder.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import msgspec

from runtime import cli
from runtime.doctor.trial import generated
from runtime.outputs.video_file import VideoSink
from runtime.sources.hardware.decoder import HARDWARE, UnfitError, fitting, sample

_SECONDS = 60
_SHAPE = (12, 480, 640, 3)  # of the clip: frames, height, width; hardware refuses tiny ones


@dataclass(frozen=True)
class Decoding:
    """A decoder by hardware; works: it opens, and gives the CPU's pixels within ``levels`` of 255;
    error: why it does not."""

    name: str
    works: bool = False
    levels: int | None = None
    error: str | None = None


def run(folder: Path) -> list[Decoding]:
    """Try each; folder: takes the clip and the answers."""
    command = cli.module_command("runtime.doctor.decoding", str(folder))
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
        end = f"its process ended with {done.returncode}"
    except subprocess.TimeoutExpired:
        end = f"no answer within {_SECONDS} s"
    answers = folder / "decoding.jsonl"
    lines = answers.read_bytes().splitlines() if answers.exists() else []
    found = [msgspec.json.decode(line, type=Decoding) for line in lines]
    return [*found, *(Decoding(name, error=end) for name in HARDWARE[len(found) :])]


def main(folder: Path) -> None:
    """The process: each decoder on a clip of generated frames."""
    clip = folder / "clip.mp4"
    with VideoSink(clip, Fraction(25)) as sink:
        for image in generated(_SHAPE):
            sink.write(image)
    with (folder / "decoding.jsonl").open("wb", buffering=0) as file, av.open(str(clip)) as opened:
        stream = opened.streams.video[0]
        packets, frames = sample(opened, stream, _SHAPE[0])
        for name in HARDWARE:
            try:
                levels = fitting(name, stream, packets, frames).levels
                found = Decoding(name, works=True, levels=levels)
            except UnfitError as error:
                found = Decoding(name, error=str(error))
            file.write(msgspec.json.encode(found) + b"\n")


def line(decoders: Sequence[Decoding]) -> str:
    """What decodes video here, in one line."""
    parts = [
        f"{one.name} works (pixels within {one.levels} of 255 levels of the CPU's)"
        if one.works
        else f"{one.name} {one.error}"
        for one in decoders
    ]
    return f"video decoding (--decode): the CPU; {'; '.join(parts)}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
