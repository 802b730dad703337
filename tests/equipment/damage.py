"""Videos with bytes changed, or cut: an answer or one line each."""

from __future__ import annotations

import faulthandler
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.progress import track

from runtime import cli
from runtime.errors import HedgeError
from runtime.pipeline import stream
from runtime.segment import Segmenter
from runtime.sources.open import open_source
from tests.equipment.check import Check

HANG_S = 30.0
OUTCOMES = ("refused", "reported", "whole", "silently short", "tracebacks")


def damaged(fast: Path, videos: Sequence[Path], path: Path, count: int) -> list[Check]:
    """Flipped and cut videos, taken in turn from ``videos``: what became of ``count`` of them."""
    originals, rng = [video.read_bytes() for video in videos], random.Random(2)
    counts: Counter[str] = Counter()
    slowest, example = 0.0, ""
    with Segmenter(fast, "openvino", threads=2) as segmenter:
        held = [_frames(video, segmenter) for video in videos]
        for number in track(range(count), "damaged videos", console=cli.err):
            at = number % len(videos)
            data = mutated(originals[at], rng)
            mutant = path.with_suffix(videos[at].suffix)
            mutant.write_bytes(data)
            start = time.monotonic()
            faulthandler.dump_traceback_later(2 * HANG_S, exit=True)  # a hang would hang this, too
            try:
                cut = len(data) < len(originals[at])
                outcome = _outcome(mutant, segmenter, None if cut else held[at])
            except Exception as error:  # what a user would see as a traceback
                outcome = "tracebacks"
                example = f" ({type(error).__name__}: {error})"
            faulthandler.cancel_dump_traceback_later()
            counts[outcome] += 1
            slowest = max(slowest, time.monotonic() - start)
            mutant.unlink()
    found = f"{count}: {', '.join(f'{counts[name]} {name}' for name in OUTCOMES)}{example}"
    passed = not counts["tracebacks"] and not counts["silently short"] and slowest <= HANG_S
    bound = "no traceback, no hang over 30 s, nothing silent"
    return [Check("damaged videos", bound, f"{found}; slowest {slowest:.1f} s", passed)]


def _frames(video: Path, segmenter: Segmenter) -> int:
    with open_source(str(video)) as source:
        return sum(1 for _ in stream(source, segmenter))


def _outcome(path: Path, segmenter: Segmenter, held: int | None) -> str:
    """held: the frames in the file; None where it is cut, which then only itself can tell."""
    try:
        with open_source(str(path)) as source:
            frames = sum(1 for _ in stream(source, segmenter))
            if source.complaint() is not None:
                return "reported"
            return "silently short" if frames < (held or source.expected or 0) else "whole"
    except HedgeError:
        return "refused"


def mutated(whole: bytes, rng: random.Random) -> bytes:
    """``whole`` with 1 to 200 bytes changed, or cut, or both."""
    data = bytearray(whole)
    kind = rng.choice(("flip", "cut", "both"))
    if kind != "cut":
        for _ in range(rng.choice((1, 5, 50, 200))):
            data[rng.randrange(len(data))] = rng.randrange(256)
    if kind != "flip":
        del data[rng.randrange(1, len(data)) :]
    return bytes(data)


def holed(whole: bytes, start: int, end: int, way: str, seed: int) -> bytes:
    """``whole`` with the bytes from ``start`` to ``end`` "cut" out, "zeroed", or "flipped" here and
    there."""
    data, rng = bytearray(whole), random.Random(seed)
    if way == "cut":
        del data[start:end]
    elif way == "zeroed":
        data[start:end] = bytes(end - start)
    else:
        for _ in range(20):
            data[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    return bytes(data)
