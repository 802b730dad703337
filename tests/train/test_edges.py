"""Edge maps of a folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from runtime.errors import HedgeError, OutputError
from runtime.images import read_rgb
from train.checkpoint import Checkpoint
from train.config import EdgeName
from train.edges import Edges, main
from train.evaluation.scoring import load_model, predict
from train.models import DeepLab


@pytest.mark.parametrize("hed", ["shared", "lite"])
def test_a_folder_of_maps(hed: EdgeName, trained_run: Path, blocks: Path, tmp_path: Path) -> None:
    """The same that evaluation shows, whether the trunk draws them or a network of its own."""
    torch.manual_seed(0)
    out, run = tmp_path / "edges", tmp_path / "model.pt"
    trained = Checkpoint.load(trained_run / "best.pt")
    assert trained.model.hed == "shared"
    config = replace(trained.model, hed=hed)
    own = trained.weights if hed == "shared" else DeepLab(config).state_dict()
    replace(trained, model=config, weights=own).save(run)
    main(Edges(blocks / "images", out, run=run))
    maps = sorted(out.rglob("*.png"))
    assert [m.relative_to(out) for m in maps] == sorted(
        p.relative_to(blocks / "images") for p in (blocks / "images").rglob("*.png")
    )
    model = load_model(Checkpoint.load(run))
    image = read_rgb(blocks / "images" / "val" / "val0.png")
    expected = predict(model, image, (48, 64), (48, 64))[1]
    assert expected is not None and expected.std() > 0.001
    written = np.asarray(Image.open(out / "val" / "val0.png")).astype(float)
    np.testing.assert_allclose(written / 255, expected, atol=0.003)


def test_what_macos_leaves_beside_images_is_none(
    trained_run: Path, blocks: Path, tmp_path: Path
) -> None:
    for name in ("a.png", "._a.png", "__MACOSX/a.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"\0\5\x16\7")
    shutil.copy(blocks / "images/val/val0.png", tmp_path / "in/a.png")
    main(Edges(tmp_path / "in", tmp_path / "out", run=trained_run))
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["a.png"]


def test_maps_inside_the_folder_of_images_are_no_images(
    trained_run: Path, blocks: Path, tmp_path: Path
) -> None:
    shutil.copy(blocks / "images/val/val0.png", tmp_path / "a.png")
    for _ in range(2):
        main(Edges(tmp_path, tmp_path / "edges", run=trained_run, force=True))
    assert [path.name for path in (tmp_path / "edges").rglob("*")] == ["a.png"]


def test_refusals(trained_run: Path, blocks: Path, tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="no images here"):
        main(Edges(tmp_path, tmp_path / "out", run=trained_run))
    with pytest.raises(HedgeError, match="is an input as well"):
        main(Edges(blocks / "images", blocks / "images", run=trained_run))
    (tmp_path / "out" / "val").mkdir(parents=True)
    (tmp_path / "out" / "val" / "val0.png").touch()
    with pytest.raises(OutputError, match=r"val0\.png: exists already; pass --force"):
        main(Edges(blocks / "images", tmp_path / "out", run=trained_run))
