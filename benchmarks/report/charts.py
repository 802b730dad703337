"""The pictures of report.html: matplotlib draws them as SVG, the page's style colours them.

matplotlib is given a colour of its own for each of the page's (``INKS``), which becomes that
variable in the SVG: a picture is legible in the dark, in the light and on paper. Texts stay texts,
in the page's font.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)
from matplotlib.transforms import Bbox

from benchmarks.report.numbers import number, proper
from benchmarks.report.rows import COLOURS, Row
from benchmarks.report.view import View
from benchmarks.results import Timing

NAMES = ("ink", "dim", "line", "grid", "card", "fp32", "fp16", "int8", "other")
INKS = {name: f"#0f0e{index:02d}" for index, name in enumerate(NAMES)}  # of page.css
# By backend: as matplotlib knows it, and as a character of the legend.
MARKERS = {"openvino": "o○", "onnxruntime": "s□", "tensorrt": "^△", "tensorrt_rtx": "v▽"}
OTHER = "D◇"
STYLE: Any = {"svg.fonttype": "none", "font.size": 12}
WIDTHS = (("desktop", 1160, 500), ("phone", 358, 400))  # of a plot, and its height, in px
LOGARITHMIC = 4.0  # largest over smallest, from which the axis of times is logarithmic
# Where a label may stand beside its mark, the best first: px to the right and up, alignment.
PLACES = [(9, 0, "left"), (-9, 0, "right")] + [
    (side * 9, rise, align)
    for rise in (13, -13, 22, -22)
    for side, align in ((1, "left"), (-1, "right"), (0, "center"))
]


@dataclass(frozen=True)
class Point:
    """A mark; title: what the pointer is told over it; front: it is on the Pareto front."""

    x: float
    y: float
    label: str
    title: str
    css: str
    marker: str = "o"
    front: bool = False


def pareto(view: View) -> str | None:
    """mIoU in percent against milliseconds; peers are hollow. None without scored rows."""
    rows = placed(view)
    places = [(row.p50, 100 * row.miou) for row in rows]
    points = [
        Point(
            x,
            y,
            label=row.name.replace(" on ", " ") if row.cell.kind == "bundle" else row.way,
            title=f"{row.name}: {number(x)} ms, {y:.2f} % mIoU",
            css=row.css,
            marker=MARKERS.get(row.cell.backend, OTHER)[0],
            front=front,
        )
        for row, (x, y), front in zip(rows, places, on_front(places), strict=True)
    ]
    about = (
        "mIoU against latency, one mark for each bundle in each engine and each peer; the table "
        "below holds the same numbers"
    )
    return scatter(points, "ms a frame, median", "mIoU %", about)


def placed(view: View) -> list[Row]:
    """The rows of the Pareto plot."""
    return [r for r in view.rows if r.cell.kind != "bare" and r.cell.timing and r.cell.accuracy]


def legend(view: View) -> dict[str, list[tuple[str, str]]]:
    """Of the Pareto plot: (class, name) of its colours, (character, name) of its marks."""
    rows = placed(view)
    found = {r.cell.precision if r.cell.kind == "bundle" else r.cell.computes for r in rows}
    colours: dict[str, list[str]] = {}
    for precision, colour in COLOURS.items():
        if precision in found:
            colours.setdefault(colour, []).append(proper(precision))
    backends = dict.fromkeys(row.cell.backend for row in rows)
    return {
        "colours": [(colour, ", ".join(names)) for colour, names in colours.items()],
        "marks": [(MARKERS.get(name, OTHER)[1], proper(name)) for name in backends],
    }


def on_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of (smaller is better, larger is better) no other is at least as good as in both."""
    return [
        not any(
            (x <= a and y >= b) and (x < a or y > b) for k, (x, y) in enumerate(points) if k != i
        )
        for i, (a, b) in enumerate(points)
    ]


def sensitivity(log: Mapping[str, Any]) -> str | None:
    """Points of mIoU lost against milliseconds for each set of layers that a search measured."""
    chosen = log.get("chosen")
    points = [
        Point(
            step["ms"],
            step["drop"]["miou"],
            label=str(len(step["kept"])),
            title=f"{len(step['kept'])} layers in floating point: {number(step['ms'])} ms, "
            f"{step['drop']['miou']:.2f} points of mIoU lost, {step['drop']['worst_class']} "
            f"{step['drop']['worst']:.2f}",
            css="int8 chosen" if step == chosen else "int8 peer",
        )
        for step in log.get("steps") or []
    ]
    about = "points of mIoU lost against milliseconds for each set of layers in floating point"
    return scatter(points, "ms a frame", "points of mIoU lost", about, 0.7)


@rc_context(STYLE)
def scatter(
    points: Sequence[Point], x_title: str, y_title: str, about: str, scale: float = 1.0
) -> str | None:
    """A plot at the width of a desktop and of a phone; about: for those who do not see it."""
    if not points:
        return None
    found = []
    for name, width, height in WIDTHS:
        figure = Figure(figsize=(width / 72, scale * height / 72), dpi=72)
        # Margins in px, for ticks and titles.
        axes = figure.add_axes((52 / width, 44 / height, 1 - 68 / width, 1 - 58 / height))
        _axes(axes, points, x_title, y_title, ticks=width // 110)
        front = sorted((point.x, point.y) for point in points if point.front)
        if len(front) > 1:
            axes.plot(*zip(*front, strict=True), color=INKS["ink"], linewidth=1.6, alpha=0.5)
        for index, point in enumerate(points):
            _draw_mark(axes, point, index)
        _label(axes, points, narrow=name == "phone")
        marks = {f"mark{index}": (p.css, p.title) for index, p in enumerate(points)}
        found.append(_svg(figure, f"plot {name}", about, marks))
    return "".join(found)


def _axes(axes: Axes, points: Sequence[Point], x_title: str, y_title: str, ticks: int) -> None:
    xs = [point.x for point in points]
    if min(xs) > 0 and max(xs) > LOGARITHMIC * min(xs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5), numticks=50))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(min(xs) / 1.25, max(xs) * 1.25)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.margins(x=0.12, y=0.12)
    axes.grid(color=INKS["grid"], linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=INKS["dim"], pad=6)
    axes.set_xlabel(f"{x_title} →", loc="right", color=INKS["dim"])
    axes.set_ylabel(f"{y_title} →", loc="top", color=INKS["dim"])
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_edgecolor(INKS["line"])


def _draw_mark(axes: Axes, point: Point, index: int) -> None:
    colour, *kind = point.css.split()
    ink = INKS.get(colour, INKS["other"])
    hollow = "peer" in kind
    axes.plot(
        point.x, point.y, gid=f"mark{index}", marker=point.marker, markersize=11, linestyle="",
        markerfacecolor=INKS["card"] if hollow else ink,
        markeredgecolor=ink if hollow else INKS["ink" if "chosen" in kind else "card"],
        markeredgewidth=1.8, zorder=3 if hollow else 4 + point.front,
    )  # fmt: skip


def _label(axes: Axes, points: Sequence[Point], narrow: bool) -> None:
    """A label for as many marks as there is room for, those of the front first."""
    axes.autoscale_view()
    centres = axes.transData.transform([(point.x, point.y) for point in points])
    taken = [Bbox.from_bounds(x - 5.5, y - 5.5, 11, 11) for x, y in centres]
    only_front = narrow and any(point.front for point in points)
    for point in sorted(points, key=lambda one: (not one.front, "peer" in one.css)):
        if only_front and not point.front:
            continue
        for right, up, align in PLACES:
            text = axes.annotate(
                point.label, (point.x, point.y), (right, up), textcoords="offset points",
                ha=align, va="center", color=INKS["ink" if point.front else "dim"],
                weight=700 if point.front else 400, parse_math=False, gid="label",
            )  # fmt: skip
            box = text.get_window_extent()
            inside = axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1)
            if inside and axes.bbox.containsy(box.y0) and not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()


def distributions(view: View) -> dict[str, Any] | None:
    """Violins of the times of each bundle and peer over their own median, on one scale."""
    rows = [row for row in view.rows if row.cell.kind != "bare" and row.cell.timing]
    timed = [(row, row.cell.timing) for row in rows if row.cell.timing]
    timed = [(row, timing) for row, timing in timed if len(timing.samples) > 1]
    if not timed:
        return None
    # p95 and half more, so that one cell's p99 does not press all others flat.
    low = max(0.5, min(min(timing.samples) / timing.p50 for _, timing in timed) - 0.02)
    tail = max(timing.p95 / timing.p50 for _, timing in timed)
    high = min(3.0, max(1.1, 1 + 1.5 * (tail - 1)))
    ticks = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return {
        "rows": [(row, timing, violin(row, timing, low, high)) for row, timing in timed],
        "ticks": [
            (round(100 * (tick - low) / (high - low), 2), f"{tick:g}×")
            for tick in ticks
            if low <= tick <= high
        ],
    }


@rc_context(STYLE)
def violin(row: Row, timing: Timing, low: float, high: float) -> str:
    """The density of a cell's times over their median, low..high, with its interval, p95, p99."""
    ink = INKS.get(row.css.split()[0], INKS["other"])
    figure = Figure(figsize=(10, 0.24))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(low, high), ylim=(0.4, 1.6))
    axes.set_axis_off()
    axes.axvline(1, color=INKS["line"])
    times = [min(high, max(low, sample / timing.p50)) for sample in timing.samples]
    drawn = axes.violinplot(times, orientation="horizontal", widths=1, showextrema=False)
    for body in cast("list[PolyCollection]", drawn["bodies"]):
        body.set(facecolor=ink, alpha=0.45, linewidth=0)
    ends = [min(high, max(low, end / timing.p50)) for end in (timing.low, timing.high)]
    axes.plot(ends, (1, 1), color=ink, linewidth=5, solid_capstyle="butt")
    for value, half in ((timing.p95, 0.3), (timing.p99, 0.18)):
        axes.plot([value / timing.p50] * 2, (1 - half, 1 + half), color=ink, linewidth=1.5)
    axes.set(xlim=(low, high), ylim=(0.4, 1.6))
    about = f"{len(times)} times, p50 {number(timing.p50)} ms, p99 {number(timing.p99)} ms"
    return _svg(figure, "violin", about)


def _svg(
    figure: Figure, kind: str, about: str = "", marks: Mapping[str, tuple[str, str]] | None = None
) -> str:
    """The figure as an element of the page; kind: its classes; marks: by id, class and title."""
    written = io.StringIO()
    with rc_context({"svg.hashsalt": f"{kind} {about}"}):  # for ids that are no random ones
        figure.savefig(written, format="svg", transparent=True, dpi=72)
    text = re.sub(r"(?s)^.*?<svg[^>]*viewBox", "<svg viewBox", written.getvalue())
    text = re.sub(r"(?s)<(metadata|style).*?</\1>|<clipPath.*?</clipPath>", "", text)
    text = re.sub(r' clip-path="[^"]*"| xmlns(:\w+)?="[^"]*"| version="[^"]*"|<!--.*?-->', "", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    text = re.sub(r"\s*\n\s*", " ", text).replace("xlink:href", "href")
    for name, (css, title) in (marks or {}).items():
        group = f'<g class="mark {html.escape(css)}"><title>{html.escape(title)}</title>'
        text = text.replace(f'<g id="{name}">', group)
    text = text.replace('<g id="label">', '<g class="label">')
    used = set(re.findall(r'href="#([^"]+)"', text))
    text = re.sub(r' id="([^"]+)"', lambda id_: id_[0] if id_[1] in used else "", text)
    for name, ink in INKS.items():
        text = text.replace(ink, f"var(--{name})")
    shown = f'role="img" aria-label="{html.escape(about)}"' if about else 'aria-hidden="true"'
    stretched = ' preserveAspectRatio="none"' if kind == "violin" else ""
    return text.replace("<svg ", f'<svg class="{kind}" {shown}{stretched} ', 1)
