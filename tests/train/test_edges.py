"""Edge maps of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import HedgeError, OutputError
from runtime.images import read_rgb
from train.checkpoint import Checkpoint
from train.edges import Edges, main
from train.evaluate import load_model, predict


def test_a_folder_of_maps(trained_run: Path, blocks: Path, tmp_path: Path) -> None:
    out = tmp_path / "edges"
    main(Edges(blocks / "images", out, run=trained_run))
    maps = sorted(out.rglob("*.png"))
    assert [m.relative_to(out) for m in maps] == sorted(
        p.relative_to(blocks / "images") for p in (blocks / "images").rglob("*.png")
    )
    model = load_model(Checkpoint.load(trained_run / "best.pt"))
    image = read_rgb(blocks / "images" / "val" / "val0.png")
    expected = predict(model, image, (48, 64), (48, 64))[1]
    assert expected is not None and expected.std() > 0.01
    written = np.asarray(Image.open(out / "val" / "val0.png")).astype(float)
    np.testing.assert_allclose(written / 255, expected, atol=0.003)


def test_refusals(trained_run: Path, blocks: Path, tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="no images here"):
        main(Edges(tmp_path, tmp_path / "out", run=trained_run))
    with pytest.raises(HedgeError, match="would overwrite an input"):
        main(Edges(blocks / "images", blocks / "images", run=trained_run))
    (tmp_path / "out" / "val").mkdir(parents=True)
    (tmp_path / "out" / "val" / "val0.png").touch()
    with pytest.raises(OutputError, match=r"val0\.png: exists; --force"):
        main(Edges(blocks / "images", tmp_path / "out", run=trained_run))
