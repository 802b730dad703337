"""The picture for people: exact colours, panels inside the image, no size too small."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.bundle.classes import CITYSCAPES, ClassSet
from runtime.outputs.overlay import Overlay


def bands(height: int, width: int, count: int) -> np.ndarray:
    """(H, W) uint8: vertical bands of the classes 0 … count - 1."""
    row = np.arange(width) * count // width
    return np.broadcast_to(row.astype(np.uint8), (height, width)).copy()


def test_colors_are_those_of_the_classes(classes: ClassSet) -> None:
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    colors = Overlay(classes).colors(labels)
    assert colors.tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 0, 0]]]


def test_the_picture_is_half_frame_half_color_outside_the_panels(classes: ClassSet) -> None:
    image = np.full((120, 300, 3), 100, np.uint8)
    labels = np.full((120, 300), 2, np.uint8)
    drawn = Overlay(classes, "model").draw(image, labels, "1.0 ms")
    assert drawn[60, 150].tolist() == [50, 50, 178]
    assert (image == 100).all(), "the frame itself is left as it was"


def test_the_status_is_written_at_the_top_left_only(classes: ClassSet) -> None:
    image = np.full((240, 320, 3), 200, np.uint8)
    labels = np.full((240, 320), 255, np.uint8)  # no class: no legend
    with_status = Overlay(classes).draw(image, labels, "12.3 ms   mIoU 71.3%")
    changed = (with_status != Overlay(classes).draw(image, labels)).any(2)
    rows, columns = np.nonzero(changed)
    assert rows.max() < 60
    assert columns.max() < 250
    assert with_status[changed].max() == 255, "white text"


def test_the_legend_names_the_classes_present(classes: ClassSet) -> None:
    image = np.full((240, 320, 3), 200, np.uint8)
    one = Overlay(classes).draw(image, np.full((240, 320), 1, np.uint8))
    three = Overlay(classes).draw(image, bands(240, 320, 3))
    pure = [list(color[::-1]) for color in classes.colors]
    assert [(one == color).all(2).any() for color in pure] == [False, True, False]
    assert all((three[200:] == color).all(2).any() for color in pure)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2), (15, 15), (64, 80), (120, 160)])
def test_every_size_is_drawn(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    labels = bands(*size, len(CITYSCAPES))
    drawn = Overlay(CITYSCAPES, "a rather long name of a model").draw(image, labels, "12.3 ms")
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8


def test_the_panels_leave_the_middle_free() -> None:
    image = np.full((240, 320, 3), 255, np.uint8)
    drawn = Overlay(CITYSCAPES, "model").draw(image, bands(240, 320, len(CITYSCAPES)), "1 ms")
    plain = Overlay(CITYSCAPES)
    expected = (image[80:170].astype(int) + plain.colors(bands(240, 320, 19))[80:170]) / 2
    assert np.abs(drawn[80:170] - expected).max() <= 1
