"""report.html: one file without scripts, links or requests, on all that the spans found."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from runtime import files
from runtime.fleet.report import Minute, Report, Summary, counted, lasting, speed
from runtime.fleet.shards import Shards
from runtime.outputs.checks import writing

_POINTS = 480  # at most, of the curves: more minutes are put together
_SHOWN = 6  # worst minutes
_LISTED = 30  # failures
_NAMED = 24  # videos at most whose borders are drawn
_WIDTH, _HEIGHT = 960, 240


@dataclass(frozen=True)
class Area:
    """A class in the picture of shares: its name, colour, mean share, and outline."""

    name: str
    color: str
    share: float
    points: str


@dataclass(frozen=True)
class Shot:
    """A minute that is shown: where, what was measured, and its picture as a data URI."""

    video: str
    time: str
    measure: str
    picture: str | None


def write_page(path: Path, report: Report, summary: Summary, shards: Shards, name: str) -> None:
    """Write the page, whole or not at all; name: the model's."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    title, shots = worst(summary, shards)
    page = environment.get_template("page.html").render(
        report=report,
        name=name,
        areas=areas(summary),
        borders=borders(summary),
        width=_WIDTH,
        height=_HEIGHT,
        title=title,
        shots=shots,
        hosts=sorted(summary.hosts.items(), key=lambda item: -item[1].frames),
        failures=report.failures[:_LISTED],
        engines=sorted({row.engine for row in summary.rows}),
        clock=clock,
        counted=counted,
        lasting=lasting,
        speed=speed,
    )
    with writing(path):
        files.write_bytes(path, page.encode())


def areas(summary: Summary) -> list[Area]:
    """The classes' shares over all minutes, stacked, the largest at the bottom."""
    minutes = list(summary.minutes.values())
    if not minutes:
        return []
    groups = np.array_split(np.arange(len(minutes)), min(_POINTS, len(minutes)))
    sums = np.array([sum(minutes[i].pixels for i in group) for group in groups], float)
    shares = sums / np.maximum(1, sums.sum(axis=1, keepdims=True))
    shares = np.concatenate([shares, shares[-1:]])  # a minute has a width
    total = sums.sum(axis=0) / max(1.0, sums.sum())
    found, base = [], np.zeros(len(shares))
    for index in np.argsort(-total):
        top = base + shares[:, index]
        red, green, blue = summary.classes.colors[index]
        if total[index] > 0:
            found.append(
                Area(
                    summary.classes.names[index],
                    f"#{red:02x}{green:02x}{blue:02x}",
                    float(total[index]),
                    _outline(base, top),
                )
            )
        base = top
    return found


def _outline(base: np.ndarray, top: np.ndarray) -> str:
    """The corners of a band of steps, as SVG writes them."""
    x = np.linspace(0, _WIDTH, len(top))
    left, right = np.repeat(x, 2)[1:-1], slice(None, -1)
    up = np.repeat(_HEIGHT * (1 - top[right]), 2)
    down = np.repeat(_HEIGHT * (1 - base[right]), 2)
    corners = [*zip(left, up, strict=True), *zip(left[::-1], down[::-1], strict=True)]
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)


def borders(summary: Summary) -> list[tuple[float, str]]:
    """Where each video begins, in the picture's pixels, and its name; none where there are many."""
    firsts: dict[str, int] = {}
    for at, (video, _) in enumerate(summary.minutes):
        firsts.setdefault(video, at)
    if len(firsts) > _NAMED:
        return []
    count = len(summary.minutes)
    return [(at / count * _WIDTH, Path(video).stem) for video, at in firsts.items()]


def worst(summary: Summary, shards: Shards) -> tuple[str, list[Shot]]:
    """What is shown and why: least agreement, else least mIoU, else the most unusual shares."""
    minutes = list(summary.minutes.values())
    for name, words in (("agreement", "agreement"), ("miou", "mIoU")):
        known = [minute for minute in minutes if minute.mean(name) is not None]
        if known:
            ranked = sorted(known, key=lambda minute: minute.mean(name) or 0.0)[:_SHOWN]
            shots = [_shot(m, f"{words} {m.mean(name) or 0.0:.1%}", shards) for m in ranked]
            return f"Worst minutes, by {words}", shots
    total = sum((minute.pixels for minute in minutes), np.zeros(len(summary.classes)))
    usual = total / max(1.0, total.sum())
    apart = {id(m): float(np.abs(m.shares - usual).sum()) / 2 for m in minutes}
    ranked = sorted(minutes, key=lambda minute: -apart[id(minute)])[:_SHOWN]
    shots = [
        _shot(m, f"{apart[id(m)]:.0%} of the pixels are of other classes", shards) for m in ranked
    ]
    return "Most unusual minutes, by their classes", shots


def _shot(minute: Minute, measure: str, shards: Shards) -> Shot:
    data = shards.picture(minute.span)
    shown = f"data:image/webp;base64,{base64.b64encode(data).decode()}" if data else None
    return Shot(Path(minute.video).name, clock(minute.start_s), measure, shown)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
