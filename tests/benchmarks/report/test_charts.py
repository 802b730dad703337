"""Pictures are drawn so that they can be read."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.report import charts
from benchmarks.report.charts import INKS, Point, on_front, scatter
from benchmarks.report.view import derive
from tests.benchmarks.runs import results, timing

LABEL = re.compile(
    r'<g class="label">.*?<text style="([^"]*)" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)'
)


def test_the_front_is_what_no_other_beats() -> None:
    places = [(10, 60), (20, 70), (30, 65), (20, 70), (40, 71), (10, 50)]
    assert on_front(places) == [True, True, False, True, True, False]


def test_labels_overlap_neither_marks_nor_each_other() -> None:
    rng = np.random.default_rng(0)
    points = [
        Point(float(x), float(y), f"a label of {n}", "", "int8 bundle", front=n < 3)
        for n, (x, y) in enumerate(
            zip(rng.uniform(5, 90, 30), rng.uniform(50, 60, 30), strict=True)
        )
    ]
    found = scatter(points, "x", "y", "about")
    assert found is not None
    desktop, phone = found.split("</svg>")[:2]
    boxes = [_box(*one) for one in LABEL.findall(desktop)]
    assert len(boxes) > 10
    uses = re.findall(r'<use href="[^"]*" x="([\d.]+)" y="([\d.]+)"', desktop)
    marks = [(float(x) - 5, float(y) - 5, float(x) + 5, float(y) + 5) for x, y in uses]
    assert len(marks) == 30
    for number, box in enumerate(boxes):
        assert not any(_meet(box, other) for other in [*marks, *boxes[:number]])
        assert box[0] >= 52 and box[2] <= 1160
    named = {text for *_, text in LABEL.findall(phone)}
    assert named and named <= {f"a label of {n}" for n in range(3)}, "the front's alone"


def _box(style: str, x: str, y: str, text: str) -> tuple[float, ...]:
    """A text's, as narrow as its letters can be."""
    found, long = re.search(r"text-anchor: (\w+)", style), 5.0 * len(text)
    anchor = found[1] if found else "start"
    left = float(x) - {"start": 0, "middle": long / 2, "end": long}[anchor]
    return left, float(y) - 8, left + long, float(y) + 1


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize("values", [[1.0], [3.0, 3.0], [0.0, 0.0], [-1.0, 2.0], [1e-3, 1e3]])
def test_plots_of_few_or_odd_values_have_axes(values: list[float]) -> None:
    found = scatter([Point(v, v, "", "", "int8 bundle") for v in values], "x", "y", "about")
    assert found is not None and "nan" not in found
    for picture, width in zip(found.split("</svg>"), (1160, 358), strict=False):
        ticks = [t for t in re.findall(r"<text[^>]*>([^<]+)</text>", picture) if "→" not in t]
        assert len(ticks) >= 2
        marks = re.findall(r'<use href="[^"]*" x="([\d.]+)" y="([\d.]+)"', picture)
        assert len(marks) == len(values)
        assert all(52 <= float(x) <= width and 0 <= float(y) <= 460 for x, y in marks)
    assert scatter([], "x", "y", "about") is None


def test_the_page_colours_pictures_and_no_name_is_markup_or_mathematics() -> None:
    evil = '<b>$x$&"'
    found = scatter([Point(1, 2, evil, evil, "int8 bundle")], "x", "y", evil)
    assert found is not None and "<b>" not in found and "$x$" in found
    assert not any(ink in found for ink in INKS.values())
    assert "var(--int8)" in found and not re.search(r"#[0-9a-f]{6}\b", found)


def test_violins_are_drawn_of_equal_times_too() -> None:
    run = results(("dlse",), ("openvino",), peers=False)
    same = replace(timing(5.0, 1), p50=5.0, samples=[5.0] * 9)
    cells = [replace(run.cells[0], timing=same), *run.cells[1:]]
    found = charts.distributions(derive(replace(run, cells=cells)))
    assert found is not None and len(found["rows"]) == 3
    assert all(0 <= at <= 100 for at, _ in found["ticks"])
    assert "1×" in [text for _, text in found["ticks"]]
    for _, _, picture in found["rows"]:
        assert "<path" in picture and "nan" not in picture
