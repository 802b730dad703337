"""How sure a model is, and shares of classes, against the same computed another way."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from runtime import Segmenter
from runtime.accuracy.confidence import confidences
from runtime.backends.registry import installed_backends
from runtime.errors import HedgeError
from runtime.sources.base import Frame
from runtime.video import VideoConfig, main
from tests.equipment.bundles import SCALE, make_bundle

Make = Callable[..., Path]
NAMES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tells its scores; for reading only."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "scored", scores=True)


def smooth(seed: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """(H, W, 3) uint8 of wide spots, in which no class is far ahead everywhere."""
    values = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    wide = functional.interpolate(values, size=size, mode="bicubic").clamp(0, 1)[0]
    return (wide.permute(1, 2, 0) * 255).to(torch.uint8).numpy()


def expected(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(24, 32) labels and probabilities of the bundle's answer, as PyTorch computes them."""
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    scores = functional.avg_pool2d(planes, 4) / SCALE
    wide = functional.interpolate(scores, size=(24, 32), mode="bilinear", align_corners=False)
    value, label = wide.softmax(1)[0].max(0)
    return label.numpy(), value.numpy()


def test_of_probabilities_no_softmax_is_made_again() -> None:
    """As networks of others answer them, which end in a softmax before they are enlarged."""
    scores = 20 * torch.rand(19, 6, 8, generator=torch.Generator().manual_seed(0))
    shares = scores.softmax(0)
    wide = functional.interpolate(shares[None], size=(24, 32), mode="bilinear")[0].amax(0)
    assert np.abs(confidences(shares.numpy(), (24, 32)) - wide.numpy()).max() < 1e-4
    assert confidences(shares.numpy(), (24, 32)).max() > 0.8


@pytest.mark.parametrize("backend", sorted({*installed_backends()} & {"openvino", "onnxruntime"}))
def test_a_confidence_is_the_softmax_of_its_label(backend: str, scored: Path) -> None:
    images = [smooth(0), smooth(1), smooth(2, (48, 64))]
    with Segmenter(scored, backend, threads=1, confidence=True) as segmenter:
        found = [segmenter.predict(Frame(0, 0.0, image, "a")) for image in images]
    for image, prediction in zip(images[:2], found, strict=False):
        labels, sure = expected(image)
        assert (prediction.labels == labels).mean() > 0.99
        assert prediction.confidence is not None and prediction.confidence.dtype == np.float32
        assert np.abs(prediction.confidence - sure).max() < 1e-4
        assert prediction.confidence.min() < 0.6 < 0.9 < prediction.confidence.max()
    assert found[2].confidence is not None and found[2].confidence.shape == (48, 64)


def test_nobody_pays_for_what_nobody_asked_for(scored: Path) -> None:
    with Segmenter(scored, "onnxruntime") as segmenter:
        assert segmenter.predict(Frame(0, 0.0, smooth(0), "a")).confidence is None


def run(source: Path, bundle: Path, **options: Any) -> int:
    return main(VideoConfig(str(source), bundle, "onnxruntime", **options))


def test_means_unknown_pixels_and_shares(
    scored: Path, tmp_path: Path, make_images: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [smooth(seed) for seed in range(3)]
    photos = make_images(tmp_path / "photos", images)
    report, table, labels = tmp_path / "r.json", tmp_path / "t.csv", tmp_path / "labels"
    options = {"json": report, "shares": table, "save_labels": labels}
    assert run(photos, scored, unknown=0.7, out=tmp_path / "drawn", **options) == 0
    own, sure = (np.stack(parts) for parts in zip(*map(expected, images), strict=True))
    told = json.loads(report.read_text())["confidence"]
    assert told == pytest.approx({n: sure[own == i].mean() for i, n in enumerate(NAMES)}, abs=1e-3)
    assert "least sure of" in capsys.readouterr().out

    doubtful = sure < 0.7
    clear = np.abs(sure - 0.7) > 1e-3
    assert 0.05 < doubtful.mean() < 0.95
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "time_s", "name", *NAMES, "unknown"]
    for number, row in enumerate(rows):
        with Image.open(labels / f"f{number}.png") as image:
            saved = np.asarray(image)
            assert image.convert("RGB").getpixel(tuple(np.argwhere(saved == 255)[0][::-1])) == (
                128, 128, 128,
            )  # fmt: skip
        assert ((saved == 255) == doubtful[number])[clear[number]].all()
        shares = [float(row[name]) for name in (*NAMES, "unknown")]
        assert shares == pytest.approx([(saved == v).mean() for v in (0, 1, 2, 255)], abs=1e-6)
        assert sum(shares) == pytest.approx(1, abs=1e-5)
    with Image.open(tmp_path / "drawn" / "f0.png") as drawn:
        gray = np.asarray(drawn).astype(int)[doubtful[0]]
    assert np.abs(gray - (images[0][doubtful[0]][:, ::-1] / 2 + 64)).max(1).mean() < 40


def test_shares_of_a_bundle_without_scores(
    shared_bundle: Path, tmp_path: Path, make_images: Make
) -> None:
    half = np.zeros((24, 32, 3), np.uint8)
    half[:, :8, 2] = 200  # red on a quarter, else blue
    table = tmp_path / "t.csv"
    assert run(make_images(tmp_path / "photos", [half]), shared_bundle, shares=table) == 0
    assert table.read_text().splitlines() == [
        "index,time_s,name,blue,green,red", "0,0.000,f0,0.750000,0.000000,0.250000",
    ]  # fmt: skip


@pytest.mark.parametrize("options", [{"confidence": True}, {"unknown": 0.5}])
def test_a_bundle_without_scores_says_so(
    options: dict[str, Any], shared_bundle: Path, tmp_path: Path, make_images: Make
) -> None:
    with pytest.raises(HedgeError, match="brightest: this bundle answers labels without scores"):
        run(make_images(tmp_path / "photos", 1), shared_bundle, **options, json=tmp_path / "r")


def test_a_table_is_a_csv(shared_bundle: Path, tmp_path: Path, make_images: Make) -> None:
    with pytest.raises(HedgeError, match=r"t\.parquet: shares are written as CSV"):
        run(make_images(tmp_path / "a", 1), shared_bundle, shares=tmp_path / "t.parquet")


def test_sources_side_by_side_are_each_told_how_sure_it_is(
    scored: Path, tmp_path: Path, make_images: Make
) -> None:
    folders = [make_images(tmp_path / str(seed), [smooth(seed)] * 3) for seed in range(2)]
    assert run(folders[0], scored, more=(str(folders[1]),), confidence=True,
               json=tmp_path / "r.json") == 0  # fmt: skip
    for seed in range(2):
        told = json.loads((tmp_path / f"r-{seed + 1}.json").read_text())["confidence"]
        labels, sure = expected(smooth(seed))
        for index, name in enumerate(NAMES):
            if (labels == index).sum() > 20:
                assert told[name] == pytest.approx(sure[labels == index].mean(), abs=2e-3)
