"""Converting: once, whole or not at all, the source untouched; zip files are not trusted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime import files
from runtime.errors import HedgeError
from tests.train.datasets import layouts
from tests.train.datasets.layouts import make_cityscapes, make_folder
from tests.train.datasets.tools import coco_files
from tests.train.datasets.tools.scenes import HOLELESS, labels
from train.datasets import is_data, open_index, survey, tools
from train.datasets.tools.export import Picture
from train.datasets.tools.split import with_splits

CLASSES = [thing.name for thing in HOLELESS]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return coco_files.export(tmp_path / "my data", coco_files.polygons(HOLELESS), CLASSES)


def packed(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path("wrapped") / file.relative_to(folder))
    return path


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): files.sha256(p) for p in folder.rglob("*") if p.is_file()}


def test_it_is_converted_once_and_the_source_untouched(
    data: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, first = tree(data), labels(data)
    assert "converted once" in capsys.readouterr().err
    made = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    again = labels(data)
    assert capsys.readouterr().err == ""
    assert made == {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert tree(data) == before and first.keys() == again.keys()


def test_a_change_of_the_labels_is_seen(data: Path) -> None:
    first = labels(data, "val")["v"]
    coco_files.write(
        data / "valid/_annotations.coco.json",
        ["v.png"],
        coco_files.polygons(HOLELESS[:1]),
        CLASSES[:1],
    )
    assert (labels(data, "val")["v"] != first).any()


def test_what_fails_leaves_nothing_behind(data: Path, cache: Path) -> None:
    for path in data.rglob("*.png"):
        path.unlink()
    with pytest.raises(HedgeError, match="without a single labelled picture"):
        open_index(data, "train")
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("lacking", ["leftImg8bit", "gtFine"])
def test_half_of_cityscapes_is_told_to_need_the_other(
    lacking: str, tmp_path: Path, cache: Path
) -> None:
    root = make_cityscapes(tmp_path / "half")
    shutil.rmtree(root / lacking)
    for half in (root, packed(root, tmp_path / "half.zip")):
        with pytest.raises(HedgeError, match=f"{half}.*: Cityscapes without its {lacking}/"):
            survey(half, "train")
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_two_processes_convert_it_once(data: Path, cache: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from train.datasets import open_index;"
        "print(len(open_index(Path(sys.argv[1]), 'train')))"
    )
    command = [sys.executable, "-c", code, str(data)]
    started = [subprocess.Popen(command, stderr=-1, stdout=-1, text=True) for _ in range(2)]
    told = [process.communicate() for process in started]
    assert [out for out, _ in told] == ["2\n", "2\n"]
    assert sum("converted once" in err for _, err in told) == 1


@pytest.mark.parametrize("make", [lambda root: None, make_folder])
def test_a_zip_of_an_export_or_of_a_data_set(
    make: Callable[[Path], object], data: Path, tmp_path: Path
) -> None:
    folder = data if make(tmp_path / "plain") is None else tmp_path / "plain"
    path = packed(folder, tmp_path / "export.zip")
    assert is_data(path)
    shutil.move(path, tmp_path / "elsewhere.ZIP")
    for split in ("train", "val"):
        zipped, loose = (open_index(p, split) for p in (tmp_path / "elsewhere.ZIP", folder))
        assert [item.name for item in zipped.items] == [item.name for item in loose.items]
        for one, other in zip(zipped.items, loose.items, strict=True):
            assert all(
                (a == b).all() for a, b in zip(zipped.read(one), loose.read(other), strict=True)
            )


def test_what_is_wrong_in_a_zip_is_named_after_it(data: Path, tmp_path: Path) -> None:
    (data / "train/Straße 0.png").unlink()
    path = packed(data, tmp_path / "export.zip")
    (fault,) = survey(path, "train").faults
    assert str(fault).startswith(f"{path}/") and ".part-" not in str(fault)
    (data / "train/_annotations.coco.json").write_text("{")
    with pytest.raises(HedgeError) as caught:
        open_index(packed(data, path), "train")
    assert str(caught.value).startswith(f"{path}/") and ".part-" not in str(caught.value)


def up(archive: zipfile.ZipFile) -> None:
    archive.writestr("../outside.png", b"x")


def absolute(archive: zipfile.ZipFile) -> None:
    archive.writestr("/tmp/outside.png", b"x")


def drive(archive: zipfile.ZipFile) -> None:
    archive.writestr("C:\\outside.png", b"x")


def link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("link.png")
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


def bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr("a.json", b"0" * 2_000_000, zipfile.ZIP_DEFLATED)


def nothing(archive: zipfile.ZipFile) -> None:
    archive.writestr("readme.txt", b"hello")


@pytest.mark.parametrize(
    ("plant", "cause"),
    [
        (up, "leads out of it"), (absolute, "leads out of it"), (drive, "leads out of it"),
        (link, "is a link"), (bomb, "which no pictures do"), (nothing, "no data set in it"),
    ],
)  # fmt: skip
def test_a_zip_is_not_trusted(
    plant: Callable[[zipfile.ZipFile], None],
    cause: str,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools.archive, "_HARMLESS", 1_000_000)
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        plant(archive)
    with pytest.raises(HedgeError, match=cause) as caught:
        open_index(tmp_path / "e.zip", "train")
    assert "e.zip: " in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert not (tmp_path / "cache/datasets/outside.png").exists()


def test_a_damaged_zip_is_one_line(data: Path, tmp_path: Path) -> None:
    path = packed(data, tmp_path / "e.zip")
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(HedgeError, match=r"e\.zip: a damaged zip"):
        open_index(path, "train")


@pytest.mark.parametrize("kind", ["tar", "gztar"])
def test_a_tar_is_no_list(kind: str, data: Path, tmp_path: Path) -> None:
    path = Path(shutil.make_archive(str(tmp_path / "VOCtrainval_11-May-2012"), kind, data))
    with pytest.raises(HedgeError, match=r"2012\.tar(\.gz)?: a tar archive; unpack it"):
        survey(path, "train")


def test_a_class_list_beside_an_export_chooses(data: Path) -> None:
    (data / "classes.json").write_text('["person", "car"]')
    index = open_index(data, "val")
    assert index.classes.names == ("person", "car")
    seen = index.read(index.items[0])[1]
    assert set(np.unique(seen)) == {0, 1, 255}


def test_spellings_of_splits_are_found(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "plain")
    for kind in ("images", "labels"):
        (root / kind / "train").rename(root / kind / "Train")
        (root / kind / "val").rename(root / kind / "valid")
    assert [len(open_index(root, split)) for split in ("train", "val")] == [2, 1]


def picture(name: str, split: str = "") -> Picture:
    return Picture(Path(name), lambda size: (), Path("labels.json"), split)


def test_one_sequence_is_cut_once_and_that_is_said() -> None:
    pictures = [picture(f"frame_{i}.png") for i in range(20)]
    splits, said = with_splits(pictures, Path())
    assert splits == ["train"] * 16 + ["val"] * 4
    assert "score flatters" in said


@pytest.mark.parametrize("name", ["{}_rgb", "frame_{} left", "2024-05-03_{}_rgb"])
def test_frames_with_a_word_behind_their_number_are_one_sequence(name: str) -> None:
    pictures = [picture(f"cam/{name.format(n)}.png") for n in range(10, 20)]
    splits, said = with_splits(pictures, Path())
    assert splits == ["train"] * 8 + ["val"] * 2 and "score flatters" in said


@pytest.mark.parametrize(
    ("pictures", "labels"),
    [
        ("uavid_{}/seq1/Images", "uavid_{}/seq1/Labels"),  # UAVid
        ("{}_images", "{}_masks"),
        ("images-{}", "labels-{}"),
    ],
)
def test_folders_that_one_word_tells_apart_are_splits(
    pictures: str, labels: str, tmp_path: Path
) -> None:
    for n, split in enumerate(("train", "train", "train", "val", "val")):
        for folder, pixels in ((pictures, layouts.picture(n)), (labels, layouts.ids())):
            layouts.save(tmp_path / "data" / folder.format(split) / f"{n}.png", pixels)
    (tmp_path / "data/classes.json").write_bytes(layouts.TWO.to_json())
    found = (open_index(tmp_path / "data", split).items for split in ("train", "val"))
    names = [[item.image.resolve().stem for item in items] for items in found]
    assert names == [["0", "1", "2"], ["3", "4"]]


def test_augmented_copies_stay_together() -> None:
    pictures = [picture(f"{c}_jpg.rf.{i}.jpg") for c in "abcdefghij" for i in range(3)]
    splits, _ = with_splits(pictures, Path())
    by_source = {p.image.name[0]: set() for p in pictures}
    for each, split in zip(pictures, splits, strict=True):
        by_source[each.image.name[0]].add(split)
    assert all(len(found) == 1 for found in by_source.values())
    assert splits.count("val") == 6
    assert with_splits(pictures, Path())[0] == splits


def test_a_split_depends_on_names_alone() -> None:
    names = [f"day{d}/{c}.png" for d in range(3) for c in "abcdefgh"]
    here, there = (
        with_splits([picture(f"{root}/{name}") for name in names], Path(root))
        for root in ("/here", "/some/where/else")
    )
    assert here == there


def test_a_cache_that_cannot_be_written_to_is_one_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEDGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(HedgeError, match="HEDGE_CACHE"):
        open_index(data, "train")


@pytest.mark.parametrize("pack", [False, True])
def test_a_full_disk_names_the_cache(
    pack: bool, data: Path, tiny_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEDGE_CACHE", str(tiny_disk))
    (tiny_disk / "taken").write_bytes(b"x" * (os.statvfs(tiny_disk).f_bavail * 4096 - 8192))
    with pytest.raises(HedgeError, match="HEDGE_CACHE to another disk") as caught:
        open_index(packed(data, tmp_path / "e.zip") if pack else data, "train")
    assert str(tiny_disk) in str(caught.value)
    assert not [path for path in (tiny_disk / "datasets").rglob("*") if path.is_file()]
