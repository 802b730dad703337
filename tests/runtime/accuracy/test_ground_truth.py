"""Finding the label of a frame, and scoring against it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.accuracy.ground_truth import LabelFolder, Scorer
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError
from runtime.segment import Prediction
from runtime.sources.base import Frame, FrameNames

Save = Callable[[Path, np.ndarray], Path]
ONE = np.zeros((2, 2))


def prediction(name: str, labels: np.ndarray) -> Prediction:
    frame = Frame(0, 0.0, np.zeros((*labels.shape, 3), np.uint8), name)
    return Prediction(frame, labels.astype(np.uint8), 1.0)


@pytest.mark.parametrize(
    ("stored", "frame"),
    [
        ("000007.png", "000007"),
        ("deep/er/a.png", "a"),
        ("x_gtFine_labelIds.png", "x_leftImg8bit"),
        ("x_gtFine_labelTrainIds.png", "x_leftImg8bit"),
        ("x_leftImg8bit.png", "x_leftImg8bit"),
    ],
)
def test_a_label_is_found_by_name(
    stored: str, frame: str, tmp_path: Path, save_ids: Save, classes: ClassSet
) -> None:
    path = save_ids(tmp_path / stored, ONE)
    folder = LabelFolder(tmp_path, classes)
    assert folder.find(frame) == path
    assert folder.find("other") is None


def test_cityscapes_label_ids_come_before_everything_else(
    tmp_path: Path, save_ids: Save, classes: ClassSet
) -> None:
    """A data set's root holds the image under the frame's own name, too."""
    for name in ("x_leftImg8bit", "x_gtFine_labelTrainIds", "x_gtFine_labelIds", "x_gtFine_color"):
        path = save_ids(tmp_path / name / f"{name}.png", ONE)
    assert path.stem == "x_gtFine_color"
    found = LabelFolder(tmp_path, classes).find("x_leftImg8bit")
    assert found is not None
    assert found.stem == "x_gtFine_labelIds"


def test_two_labels_of_one_name_are_refused(
    tmp_path: Path, save_ids: Save, classes: ClassSet
) -> None:
    save_ids(tmp_path / "train" / "a.png", ONE)
    save_ids(tmp_path / "val" / "a.png", ONE)
    with pytest.raises(HedgeError, match="two labels of frame a"):
        LabelFolder(tmp_path, classes).find("a")


def test_no_label_at_all_names_both_sides(
    tmp_path: Path, save_ids: Save, classes: ClassSet
) -> None:
    save_ids(tmp_path / "b.png", ONE)
    folder = LabelFolder(tmp_path, classes)
    folder.require(["a", "b"], "clip.mp4")
    with pytest.raises(HedgeError, match=rf"{tmp_path}.*clip\.mp4"):
        folder.require(["a"], "clip.mp4")


def test_a_missing_folder_is_named(tmp_path: Path, classes: ClassSet) -> None:
    with pytest.raises(HedgeError, match="no such folder"):
        LabelFolder(tmp_path / "none", classes)


def test_frames_without_label_are_not_scored(
    tmp_path: Path, save_ids: Save, classes: ClassSet
) -> None:
    save_ids(tmp_path / "a.png", np.array([[0, 0], [1, IGNORE]]))
    scorer = Scorer(LabelFolder(tmp_path, classes))
    scorer.update(prediction("other", np.zeros((2, 2))))
    assert (scorer.scored, scorer.miou()) == (0, None)
    scorer.update(prediction("a", np.array([[0, 1], [1, 2]])))
    assert (scorer.scored, scorer.miou()) == (1, 0.5)


def test_a_label_of_another_size_is_an_error(
    tmp_path: Path, save_ids: Save, classes: ClassSet
) -> None:
    save_ids(tmp_path / "a.png", np.zeros((2, 3)))
    scorer = Scorer(LabelFolder(tmp_path, classes))
    with pytest.raises(HedgeError, match=r"a\.png: the label is 3×2 but its frame is 4×2"):
        scorer.update(prediction("a", np.zeros((2, 4))))


@pytest.mark.parametrize(("label", "named"), [("1999999999", True), ("2000000000", False)])
def test_a_video_that_promises_two_billion_frames_is_asked_for_those_with_labels(
    label: str, named: bool, tmp_path: Path, save_ids: Save, classes: ClassSet
) -> None:
    """Its header costs eight bytes; a list of the names would take 120 GB."""
    save_ids(tmp_path / f"{label}.png", ONE)
    folder = LabelFolder(tmp_path, classes)
    if named:
        folder.require(FrameNames(2 * 10**9), "clip.avi")
    else:
        with pytest.raises(HedgeError, match="no label here belongs to a frame of clip"):
            folder.require(FrameNames(2 * 10**9), "clip.avi")


def test_frame_names_are_those_of_the_frames() -> None:
    names = FrameNames(3)
    asked = ("000000", "000002", "000003", "2", "0000002", "-00001", "²", "x")
    assert [name for name in asked if name in names] == ["000000", "000002"]
