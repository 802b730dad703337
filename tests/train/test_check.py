"""The check finds each planted fault, all of them at once, and changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime import cli, files
from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError
from runtime.outputs.sheet import WIDTH
from tests.equipment.bundles import make_bundle
from tests.equipment.pictures import make_blocks
from train import check
from train.check import Check
from train.datasets import open_index
from train.datasets.audit import audit, before_training
from train.datasets.index import Problem

TWO = ClassSet(("ground", "thing"), ((10, 20, 30), (200, 100, 0)))
SIZE = (6, 8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A clean data set: four images to train on, two to validate on."""
    root = tmp_path / "data"
    for i, name in enumerate(("train/a", "train/b", "train/c", "train/d", "val/e", "val/f")):
        save(root / f"images/{name}.png", np.full((*SIZE, 3), 40 * i, np.uint8))
        save(root / f"labels/{name}.png", np.indices(SIZE)[0].astype(np.uint8) % 2)
    (root / "classes.json").write_bytes(TWO.to_json())
    return root


def tree(folder: Path) -> dict[Path, str]:
    return {path: files.sha256(path) for path in folder.rglob("*") if path.is_file()}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def resize(path: Path) -> None:
    save(path, np.zeros((3, 3), np.uint8))


def plant_id(path: Path) -> None:
    save(path, np.full(SIZE, 99, np.uint8))


def copy_to(target: str) -> Callable[[Path], None]:
    def copy(path: Path) -> None:
        shutil.copy(path, path.parents[2] / target)

    return copy


PLANTS: dict[str, tuple[Problem, str, Callable[[Path], None]]] = {
    "no label": (Problem.MISSING_LABEL, "labels/train/b.png", Path.unlink),
    "no image": (Problem.ORPHAN_LABEL, "images/train/b.png", Path.unlink),
    "truncated image": (Problem.UNREADABLE, "images/val/e.png", truncate),
    "truncated label": (Problem.UNREADABLE, "labels/val/e.png", truncate),
    "size": (Problem.SIZE_MISMATCH, "labels/train/c.png", resize),
    "id": (Problem.UNKNOWN_ID, "labels/val/f.png", plant_id),
    "same content": (Problem.OVERLAP, "images/train/a.png", copy_to("images/val/e.png")),
    "no classes": (Problem.CLASS_LIST, "classes.json", Path.unlink),
    "bad classes": (Problem.CLASS_LIST, "classes.json", truncate),
    "no split": (Problem.EMPTY_SPLIT, "images/val", shutil.rmtree),
}


def test_a_good_set_is_clean(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(Check(data)) == 0
    shown = capsys.readouterr().out
    assert "nothing wrong" in shown
    assert "8x6: 4" in shown
    assert "50.00%" in shown


@pytest.mark.parametrize("plant", PLANTS)
def test_each_planted_fault_is_found(plant: str, data: Path) -> None:
    problem, place, spoil = PLANTS[plant]
    spoil(data / place)
    before = tree(data)
    findings = audit(data)
    assert problem in findings.by_problem()
    named = Path(place).stem if problem is not Problem.OVERLAP else "e"
    assert any(named in str(fault.path) for fault in findings.by_problem()[problem])
    assert check.main(Check(data)) == 2
    assert tree(data) == before


def test_all_faults_are_found_at_once(data: Path, tmp_path: Path) -> None:
    (data / "labels/train/a.png").unlink()
    truncate(data / "images/train/b.png")
    plant_id(data / "labels/train/b.png")
    resize(data / "labels/train/c.png")
    shutil.copy(data / "images/train/d.png", data / "images/val/e.png")
    report = tmp_path / "report.json"
    assert check.main(Check(data, json=report)) == 2
    found = json.loads(report.read_text())
    assert not found["clean"]
    assert {problem: len(lines) for problem, lines in found["problems"].items()} == {
        Problem.MISSING_LABEL.value: 1,
        Problem.UNREADABLE.value: 1,
        Problem.UNKNOWN_ID.value: 1,
        Problem.SIZE_MISMATCH.value: 1,
        Problem.OVERLAP.value: 1,
    }


def test_the_same_name_in_both_splits_is_found(data: Path) -> None:
    save(data / "images/val/a.png", np.full((*SIZE, 3), 250, np.uint8))
    save(data / "labels/val/a.png", np.zeros(SIZE, np.uint8))
    (fault,) = audit(data).faults
    assert fault.problem is Problem.OVERLAP
    assert "same name" in fault.detail


def test_the_report_is_stable(data: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert check.main(Check(data, json=report)) == 0
    found = json.loads(report.read_text())
    assert found["clean"] and found["layout"] == "folder" and not found["warnings"]
    assert found["splits"]["train"] == {
        "images": 4,
        "sizes": {"8x6": 4},
        "pixel_share": {"ground": 0.5, "thing": 0.5, "ignore": 0.0},
    }


@pytest.mark.parametrize(("everything", "count"), [(False, 3), (True, 4)])
def test_first_files_or_all(
    everything: bool,
    count: int,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli.out, "width", 300)
    shutil.rmtree(data / "labels/train")
    check.main(Check(data, all=everything))
    shown = capsys.readouterr().out
    assert shown.count("no label of this name") == count
    assert ("1 more" in shown) is not everything


def test_warnings_do_not_make_a_set_wrong(data: Path) -> None:
    for name in "abcd":
        save(data / f"labels/train/{name}.png", np.zeros(SIZE, np.uint8))
    save(data / "labels/val/e.png", np.full(SIZE, 255, np.uint8))
    findings = audit(data)
    assert not findings.faults
    assert ["thing" in findings.warnings[0], "val: 1" in findings.warnings[1]] == [True, True]


def test_rare_classes_are_named(data: Path) -> None:
    for name in "abcd":
        label = np.zeros((50, 50), np.uint8)
        label[0, 0] = 1
        save(data / f"labels/train/{name}.png", label)
        save(data / f"images/train/{name}.png", np.full((50, 50, 3), ord(name), np.uint8))
    (line,) = audit(data).warnings
    assert "rare" in line and "thing (0.040%)" in line


def test_edge_maps_of_zeros_and_ones_are_refused(data: Path) -> None:
    """They taught, without a word, that there are no edges."""
    save(data / "edges/a.png", np.eye(*SIZE, dtype=np.uint8))
    for split, name in (("train", "a"), ("val", "e")):
        line = f"images/{split}/{name}.png, labels/{split}/{name}.png, edges/a.png\n"
        (data / f"{split}.txt").write_text(line)
    (fault,) = audit(data / "train.txt").faults
    assert "a.png: no edge map of train has a value above 1; an edge is up to 255" in str(fault)
    train, val = (open_index(data / "train.txt", split) for split in ("train", "val"))
    with pytest.raises(HedgeError, match="no edge map of train has a value above 1"):
        before_training(train, val)
    save(data / "edges/a.png", np.eye(*SIZE, dtype=np.uint8) * 200)
    before_training(train, val, hushed=True)
    assert not audit(data / "train.txt").faults


def test_edges_of_a_list_are_checked(data: Path) -> None:
    save(data / "edges/e.png", np.zeros((2, 2), np.uint8))
    save(data / "edges/a.png", np.zeros((*SIZE, 3), np.uint8))
    (data / "lists").mkdir()
    shutil.copy(data / "classes.json", data / "lists")
    pair = "../images/{0}.png, ../labels/{0}.png"
    (data / "lists/train.txt").write_text(
        f"{pair.format('train/a')}, ../edges/a.png\n{pair.format('train/b')}\nnonsense\n"
    )
    (data / "lists/val.txt").write_text(f"{pair.format('val/e')}, ../edges/e.png\n")
    findings = audit(data / "lists")
    assert set(findings.by_problem()) == {
        Problem.UNREADABLE,
        Problem.SIZE_MISMATCH,
        Problem.BAD_LINE,
    }
    assert "train: 1 of 2 lines name no edges" in findings.warnings[-1]


def test_what_is_no_data_set_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="not a data set"):
        audit(tmp_path)


def test_turned_images_are_counted(data: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", SIZE[::-1], "red").save(data / "images/train/b.png", exif=exif)
    findings = audit(data)
    assert not findings.faults
    assert "train: 1 of the images that were read are turned" in findings.warnings[0]


def test_labels_that_a_model_surely_contradicts_are_listed_worst_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle that knows blue, green and red; two images whose labels were tampered with."""
    monkeypatch.chdir(tmp_path)
    data, report = make_blocks(tmp_path / "data"), tmp_path / "report.json"
    (data / "classes.json").write_bytes(
        ClassSet(("Blue", "green", "red"), ((0, 0, 255), (0, 255, 0), (255, 0, 0))).to_json()
    )
    for blue, path in enumerate(sorted(data.glob("labels/*/*.png")), 220):
        image = data / "images" / path.parent.name / path.name
        save(image, np.full((48, 64, 3), (0, 0, blue), np.uint8))
        label = np.zeros((48, 64), np.uint8)
        if path.stem in ("train3", "val1"):
            label[8:40, 4 : 20 if path.stem == "val1" else 60] = 1
        save(path, label)
    bundle = make_bundle(tmp_path / "bundle", scores=True)
    assert check.main(Check(data, bundle, tmp_path / "sheet.png", json=report)) == 0
    found = json.loads(report.read_text())["disagreements"]
    assert [(each["split"], Path(each["image"]).stem) for each in found] == [
        ("train", "train3"), ("val", "val1"),
    ]  # fmt: skip
    assert found[0]["share"] == pytest.approx(32 * 56 / (48 * 64), abs=0.05)
    [region] = found[1]["regions"]
    assert (region["labelled"], region["predicted"]) == ("green", "Blue")
    assert region["confidence"] > 0.9 and region["box"] == [4, 8, 16, 32]
    assert "train/train3" in capsys.readouterr().out
    assert Image.open(tmp_path / "sheet.png").width == WIDTH
    other = ClassSet(("sea", "land", "air"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
    (data / "classes.json").write_bytes(other.to_json())
    with pytest.raises(HedgeError, match=r"--with .*none of its classes \(blue, green, red\)"):
        check.main(Check(data, bundle))
