"""The model that comes with the runtime: taken where there is no other, and introduced."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime import Segmenter
from runtime.bundle import shipped
from runtime.bundle.manifest import Manifest
from runtime.bundle.measured import Measured
from runtime.bundle.shipped import find_bundle
from runtime.config import VideoConfig
from runtime.errors import HedgeError
from runtime.video import main

TERMS = "Nowhere: for looking at only"


@pytest.fixture
def box(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the shipped model; the working folder has no bundle."""
    root = tmp_path / "models"
    shutil.copytree(bundle, root / "street19-int8")
    measured = Measured(miou=0.4567, images=7, data="nowhere", split="val")
    manifest = replace(Manifest.load(bundle), name="street19-int8", license=TERMS)
    replace(manifest, measured=measured).save(root / "street19-int8")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(shipped, "SHIPPED", root)
    return root / "street19-int8"


def test_a_video_without_a_bundle_is_segmented_by_the_shipped_model(
    box: Path, make_clip: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(tmp_path / "drive.mp4")
    assert main(VideoConfig(str(clip), out=tmp_path / "out.mp4", backend="onnxruntime")) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert (
        f"the shipped street19-int8 (3 classes): 45.7 % mIoU on 7 frames of nowhere (val); {TERMS}"
        in said
    )
    assert (tmp_path / "out.mp4").stat().st_size > 0


def test_ones_own_bundle_comes_first_and_nothing_is_said(
    box: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(bundle, tmp_path / "bundles" / "mine")
    assert find_bundle(None, tmp_path / "bundles") == tmp_path / "bundles" / "mine"
    assert find_bundle(bundle) == bundle
    assert capsys.readouterr().err == ""


def test_the_shipped_model_has_a_name(box: Path) -> None:
    assert find_bundle(Path("street19")) == find_bundle(Path("street19-int8")) == box
    mistyped = Path("elsewhere/street19-int8")
    assert find_bundle(mistyped) == mistyped, "a path names no shipped model"
    with Segmenter("street19", "onnxruntime") as segmenter:
        assert segmenter.manifest.license == TERMS
        height, width = segmenter.manifest.input.shape[1:3]
        assert segmenter(np.zeros((height, width, 3), np.uint8)).shape == (height, width)


def test_without_any_model_the_way_to_one_is_told(box: Path) -> None:
    shutil.rmtree(box)
    with pytest.raises(HedgeError, match="make a bundle first"):
        find_bundle(None)
    with pytest.raises(HedgeError, match="street19: not a bundle"):
        Segmenter("street19")


def test_the_model_in_the_box_is_whole_small_and_says_its_terms() -> None:
    manifest = Manifest.load(find_bundle(Path("street19")))  # checks every file's sha256
    assert (manifest.precision, len(manifest.classes)) == ("int8", 19)
    assert manifest.license == "Cityscapes: research and non-commercial use"
    assert manifest.measured.split == "val" and manifest.measured.images == 7
    root = Path(shipped.__file__).parents[2]
    found = [*root.glob("runtime/models/*/*"), *root.glob("train/weights/*")]
    files = [path for path in found if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 24e6
    assert "/" not in manifest.measured.data
