"""The picture for people: exact colours, panels inside the image, no size too small."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.bundle.classes import CITYSCAPES, ClassSet
from runtime.errors import HedgeError
from runtime.outputs.overlay import Look, Overlay, Style


def bands(height: int, width: int, count: int) -> np.ndarray:
    """(H, W) uint8: vertical bands of the classes 0 … count - 1."""
    row = np.arange(width) * count // width
    return np.broadcast_to(row.astype(np.uint8), (height, width)).copy()


def test_colors_are_those_of_the_classes(classes: ClassSet) -> None:
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    colors = Overlay(classes).colors(labels)
    assert colors.tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [128, 128, 128]]]


def test_a_picture_full_of_a_class_is_a_third_color_outside_the_panels(classes: ClassSet) -> None:
    image = np.full((120, 300, 3), 100, np.uint8)
    labels = np.full((120, 300), 2, np.uint8)
    drawn = Overlay(classes, "model").draw(image, labels, "1.0 ms")
    assert drawn[60, 150].tolist() == [65, 65, 154]
    assert (image == 100).all(), "the frame itself is left as it was"


def test_the_status_is_written_at_the_top_left_only(classes: ClassSet) -> None:
    image = np.full((240, 320, 3), 200, np.uint8)
    labels = np.zeros((240, 320), np.uint8)
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
    overlay = Overlay(CITYSCAPES, "model", Look(opacity=0.5))
    drawn = overlay.draw(image, bands(240, 320, len(CITYSCAPES)), "1 ms")
    plain = Overlay(CITYSCAPES)
    labels = bands(240, 320, len(CITYSCAPES))
    inner = (labels == np.roll(labels, 2, 1)) & (labels == np.roll(labels, -2, 1))
    inner[:, [0, 1, -2, -1]] = inner[:80] = inner[170:] = False
    expected = (image.astype(int) + plain.colors(labels)) / 2
    assert np.abs(drawn - expected)[inner].max() <= 1


def halves() -> np.ndarray:
    """(60, 80) uint8: class 0 left of column 40, class 1 from there on."""
    return np.repeat(np.arange(2, dtype=np.uint8), 40)[None].repeat(60, 0)


def test_edges_are_soft_and_no_darker_than_both_sides(classes: ClassSet) -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    row = Overlay(classes, look=Look(opacity=1.0)).blend(image, halves())[30].astype(int)
    assert row[37].tolist() == [255, 0, 0] and row[42].tolist() == [0, 255, 0]
    assert 0 < row[40, 0] < row[39, 0] < 255, "blue fades"
    assert np.abs(row[36:44, :2].sum(1) - 255).max() <= 1, "as green comes"


@pytest.mark.parametrize("style", ["fill", "outline"])
def test_a_color_over_the_same_color_shows_no_seam(style: Style, classes: ClassSet) -> None:
    image = np.full((60, 80, 3), (255, 0, 0), np.uint8)
    drawn = Overlay(classes, look=Look(style, 1.0, ("blue",))).blend(image, halves())
    assert np.abs(drawn.astype(int) - image).max() <= 2


def test_opacity_is_the_share_of_the_color(classes: ClassSet) -> None:
    image = np.full((60, 80, 3), 100, np.uint8)
    for look in (Look(opacity=0.25), Look(opacity=0.25, only=("blue",))):
        pixel = Overlay(classes, look=look).blend(image, halves())[30, 10]
        assert np.abs(pixel.astype(int) - (139, 75, 75)).max() <= 1
    assert (Overlay(classes, look=Look(opacity=0.0)).blend(image, halves()) == image).all()


def test_what_fills_little_stands_out_from_what_fills_much(classes: ClassSet) -> None:
    """A tenth of green, a hundredth of red, on blue: how much of the picture each leaves."""
    image = np.full((200, 200, 3), 200, np.uint8)
    labels = np.zeros((200, 200), np.uint8)
    labels[:20], labels[100:120, 100:120] = 1, 2
    drawn = Overlay(classes).blend(image, labels).astype(int)
    left = [drawn[60, 60, 1], drawn[10, 60, 2], drawn[110, 110, 0]]
    between = 0.7 - 0.35 * np.log(0.1 / 0.02) / np.log(0.2 / 0.02)
    assert left == pytest.approx([200 * 0.65, 200 * (1 - between), 200 * 0.3], abs=1.5)
    outline = Overlay(classes, look=Look("outline")).blend(image, labels)
    assert outline[100, 105, 1] == outline[20, 60, 2] == 0, "lines are drawn in full"


def test_only_the_classes_asked_for_are_drawn(classes: ClassSet) -> None:
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    labels = bands(240, 320, 3)
    drawn = Overlay(classes, look=Look(opacity=0.5, only=(" GREEN ", "red"))).draw(image, labels)
    assert (drawn[:200, :104] == image[:200, :104]).all(), "blue is left as it was"
    green = image[:180, 110:210] / 2 + (0, 127.5, 0)
    assert np.abs(drawn[:180, 110:210] - green).max() <= 1
    assert not (drawn[200:] == (255, 0, 0)).all(2).any(), "nor is it in the legend"
    assert (drawn[200:] == (0, 255, 0)).all(2).any()


def test_an_outline_leaves_the_inside_alone(classes: ClassSet) -> None:
    image = np.full((60, 80, 3), 100, np.uint8)
    drawn = Overlay(classes, look=Look("outline")).blend(image, halves())
    changed = (drawn != image).any(2)
    assert changed[:, 38:42].all() and not changed[:, :35].any() and not changed[:, 45:].any()
    assert drawn[30, 38].argmax() == 0 and drawn[30, 41].argmax() == 1
    assert (drawn[30, 38:42].max(1) > 160).all(), "a line, not a shadow"
    one = Overlay(classes, look=Look("outline", only=("blue",))).blend(image, halves())
    assert one[30, 38].argmax() == 0 and one[30, 38, 0] > 160 and (one[:, 41:] == 100).all()


def test_a_class_that_there_is_not_is_one_error_with_those_there_are(classes: ClassSet) -> None:
    with pytest.raises(HedgeError, match=r"--only car: no class .*blue, green, red") as caught:
        Overlay(classes, look=Look(only=("blue", "car")))
    assert "\n" not in str(caught.value)


def test_unknown_pixels_are_gray_and_named(classes: ClassSet) -> None:
    image = np.full((240, 320, 3), 128, np.uint8)
    labels = np.full((240, 320), 255, np.uint8)
    overlay = Overlay(classes)
    assert (overlay.blend(image, labels) == 128).all()
    assert (overlay.draw(image, labels)[200:] != 128).any(), "the legend"
