"""Plots are laid out so that they can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.report import plot_layout
from benchmarks.report.plot_layout import Point, pareto, scatter
from tests.benchmarks.runs import timing


def test_the_front_is_what_no_other_beats() -> None:
    places = [(10, 60), (20, 70), (30, 65), (20, 70), (40, 71), (10, 50)]
    assert pareto(places) == [True, True, False, True, True, False]


def test_labels_overlap_neither_marks_nor_each_other() -> None:
    rng = np.random.default_rng(0)
    points = [
        Point(float(x), float(y), f"a label of {n}", "", front=n < 3)
        for n, (x, y) in enumerate(
            zip(rng.uniform(5, 90, 30), rng.uniform(50, 60, 30), strict=True)
        )
    ]
    plot = scatter(points, 900, 420, "x", "y")
    assert plot and len(plot.labels) > 10
    boxes = [_box(label) for label in plot.labels]
    marks = [(x - 5, y - 5, x + 5, y + 5) for x, y, _ in plot.marks]
    for number, box in enumerate(boxes):
        assert not any(_meet(box, other) for other in [*marks, *boxes[:number]])
        assert box[0] >= plot.left and box[2] <= plot.width
    narrow = scatter(points, 358, 400, "x", "y")
    assert narrow and all(label.front for label in narrow.labels)


def _box(label: plot_layout.Label) -> tuple[float, float, float, float]:
    long = plot_layout.CHARACTER * len(label.text)
    left = label.x - {"start": 0, "middle": long / 2, "end": long}[label.anchor]
    return left, label.y - 9, left + long, label.y + 2


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@pytest.mark.parametrize("values", [[1.0], [3.0, 3.0], [0.0, 0.0], [-1.0, 2.0], [1e-3, 1e3]])
def test_plots_of_few_or_odd_values_have_axes(values: list[float]) -> None:
    plot = scatter([Point(value, value, "", "") for value in values], 400, 300, "x", "y")
    assert plot and plot.x_ticks and plot.y_ticks
    for x, y, _ in plot.marks:
        assert plot.left <= x <= plot.width and 0 <= y <= plot.height - plot.bottom
    assert scatter([], 400, 300, "x", "y") is None


def test_a_violin_is_drawn_of_equal_times_too() -> None:
    same = replace(timing(5.0, 1), p50=5.0, samples=[5.0] * 9)
    low, high = plot_layout.spread([same])
    assert low < 1 < high
    path = plot_layout.violin(same, low, high)
    assert path.startswith("M0 ") and path.endswith("z") and "nan" not in path
