"""Exports whose labels are pictures keep every pixel: VOC, CVAT's masks, street sets, colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import HedgeError
from tests.train.datasets.tools.scenes import NAMES, SIZE, STEMS, THINGS, drawn, labels, photo
from train.datasets import open_index, survey
from train.datasets.tools.voc import voc_color

COLORS = [(0, 0, 0), (10, 200, 30), (250, 0, 1), (7, 7, 70)]
WANTED = drawn(THINGS, 0.0)[0]


def save_ids(path: Path, ids: np.ndarray, palette: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids)
    if palette:
        image.putpalette(np.array([voc_color(i) for i in range(256)], np.uint8).tobytes())
    image.save(path)
    return path


def save_colors(path: Path, ids: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(COLORS, np.uint8)[ids]).save(path)
    return path


def lists(root: Path, **stems: tuple[str, ...]) -> None:
    folder = root / "ImageSets/Segmentation"
    folder.mkdir(parents=True)
    for name, rows in stems.items():
        (folder / f"{name}.txt").write_text("\n".join(rows), encoding="utf-8")


def labelmap(root: Path) -> None:
    rows = [f"{n}:{','.join(map(str, c))}::" for n, c in zip(NAMES, COLORS, strict=True)]
    head = "# label:color_rgb:parts:actions"
    (root / "labelmap.txt").write_text("\n".join([head, *rows]), encoding="utf-8")


def test_voc_by_its_own_classes_and_lists(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit/VOC2012"
    bordered = WANTED.copy()
    bordered[:3] = 255
    for seed, stem in enumerate(STEMS):
        photo(root / f"JPEGImages/{stem}.jpg", seed)
        save_ids(root / f"SegmentationClass/{stem}.png", bordered)
    lists(root, train=STEMS[:2], val=STEMS[2:], trainval=STEMS)
    index = open_index(tmp_path, "train")
    assert [item.name for item in index.items] == sorted(STEMS[:2])
    assert index.classes.names[:4] == ("background", "aeroplane", "bicycle", "bird")
    assert (index.read(index.items[0])[1] == bordered).all()


@pytest.mark.parametrize("save", [save_colors, save_ids])
def test_masks_of_cvat_by_the_colours_of_their_labelmap(
    save: Callable[[Path, np.ndarray], Path], tmp_path: Path
) -> None:
    labelmap(tmp_path)
    for seed, stem in enumerate(STEMS):
        photo(tmp_path / f"JPEGImages/{stem}.png", seed)
        save(tmp_path / f"SegmentationClass/{stem}.png", WANTED)
    if save is save_ids:  # a palette may hold the colours, too, in any order
        for path in (tmp_path / "SegmentationClass").iterdir():
            image = Image.open(path)
            image.putpalette(np.array(COLORS, np.uint8).tobytes())
            image.save(path)
    lists(tmp_path, default=STEMS)
    found = labels(tmp_path)
    assert len(found) == 3 and all((label == WANTED).all() for label in found.values())


def test_a_label_without_a_picture_or_with_a_foreign_colour_is_named(tmp_path: Path) -> None:
    labelmap(tmp_path)
    for seed, stem in enumerate(STEMS):
        photo(tmp_path / f"JPEGImages/{stem}.png", seed)
        save_colors(tmp_path / f"SegmentationClass/{stem}.png", WANTED)
    (tmp_path / f"JPEGImages/{STEMS[0]}.png").unlink()
    foreign = np.full((*SIZE, 3), 99, np.uint8)
    Image.fromarray(foreign).save(tmp_path / f"SegmentationClass/{STEMS[1]}.png")
    lists(tmp_path, train=STEMS)
    faults = [str(fault) for fault in survey(tmp_path, "train").faults]
    assert any(STEMS[0] in fault and "no picture" in fault for fault in faults)
    assert any(STEMS[1] in fault and "colour (99, 99, 99)" in fault for fault in faults)
    (tmp_path / "labelmap.txt").write_text("road:1,2::\n")
    with pytest.raises(HedgeError, match=r"labelmap.txt: expected 'name:red,green,blue::'"):
        open_index(tmp_path, "train")
