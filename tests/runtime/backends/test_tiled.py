"""Frames larger than the network: tiles and their blend, against the same computed cell by cell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch.nn import functional

from runtime import Segmenter
from runtime.errors import HedgeError
from runtime.sources.base import Frame
from runtime.video import VideoConfig, main
from tests.equipment.bundles import SCALE, make_bundle, resign

Make = Callable[..., Path]
# By the network's size: where tiles begin, in cells and in pixels, and the size of all.
DOWN = {48: ([0, 9], [0, 36], 21, 84), 50: ([0, 9], [0, 38], 21, 88)}
ACROSS = {64: ([0, 12, 24], [0, 48, 96], 40, 160), 66: ([0, 12, 24], [0, 50, 99], 40, 165)}


def short_sighted(folder: Path, size: tuple[int, int], batch: int = 1) -> Path:
    """A bundle whose scores are means of 12 × 12 pixels, beyond the frame's border black ones.

    So a tile's edge tells something else than the middle of its neighbour does.
    """
    bundle = make_bundle(folder, size, batch, scores=True)
    model = onnx.load(bundle / "model.onnx")
    (pool,) = (node for node in model.graph.node if node.op_type == "AveragePool")
    wide = onnx.helper.make_node(
        "AveragePool", pool.input, pool.output,
        kernel_shape=[12, 12], strides=[4, 4], pads=[4, 4, 4, 4], count_include_pad=1,
    )  # fmt: skip
    pool.CopyFrom(wide)
    onnx.save(model, bundle / "model.onnx")
    resign(bundle)
    return bundle


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of (48, 64) that tells its scores; for reading only."""
    return short_sighted(tmp_path_factory.mktemp("bundles") / "tiny", (48, 64))


def smooth(seed: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 of wide spots, in which no class is far ahead everywhere."""
    values = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(seed))
    wide = functional.interpolate(values, size=size, mode="bicubic").clamp(0, 1)[0]
    return (wide.permute(1, 2, 0) * 255).to(torch.uint8).numpy()


def expected(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) labels and probabilities of 2 × 3 tiles of ``size``: each cell by itself."""
    (tops, starts, rows, height), (lefts, begins, columns, width) = DOWN[size[0]], ACROSS[size[1]]
    resized = torch.from_numpy(cv2.resize(image, (width, height))).permute(2, 0, 1)[None].float()
    above, beside = 12 // 4, 16 // 4  # cells that two tiles share
    total, weights = torch.zeros(1, 3, rows, columns), torch.zeros(rows, columns)
    for top, start in zip(tops, starts, strict=True):
        for left, begin in zip(lefts, begins, strict=True):
            tile = resized[:, :, start : start + size[0], begin : begin + size[1]]
            scores = functional.avg_pool2d(tile, 12, 4, 4, count_include_pad=True) / SCALE
            for y in range(12):
                inside_y = min(1, (y + 0.5) / above) if top else 1
                inside_y = min(inside_y, (12 - y - 0.5) / above) if top != tops[-1] else inside_y
                for x in range(16):
                    inside_x = min(1, (x + 0.5) / beside) if left else 1
                    if left != lefts[-1]:
                        inside_x = min(inside_x, (16 - x - 0.5) / beside)
                    total[0, :, top + y, left + x] += scores[0, :, y, x] * inside_y * inside_x
                    weights[top + y, left + x] += inside_y * inside_x
    wide = functional.interpolate(total / weights, size=(height, width), mode="bilinear")
    value, label = wide.softmax(1)[0].max(0)
    ys, xs = (
        (2 * np.arange(large) + 1) * small // (2 * large)  # whose middle is the nearest
        for large, small in ((image.shape[0], height), (image.shape[1], width))
    )
    return label.numpy()[np.ix_(ys, xs)], value.numpy()[np.ix_(ys, xs)]


@pytest.mark.parametrize("size", [(48, 64), (50, 66)])
@pytest.mark.parametrize("frame", [(84, 160), (101, 203), (300, 211)])
def test_tiles_are_blended_in_the_scores(
    frame: tuple[int, int], size: tuple[int, int], tmp_path: Path
) -> None:
    image = smooth(3, frame)
    bundle = short_sighted(tmp_path / "b", size)
    with Segmenter(bundle, "onnxruntime", 1, confidence=True, tiles=(2, 3)) as segmenter:
        found = segmenter.predict(Frame(0, 0.0, image, "a"))
    labels, sure = expected(image, size)
    assert found.labels.shape == frame
    assert len(np.unique(found.labels)) == 3
    assert (found.labels == labels).mean() > 0.998
    assert found.confidence is not None
    # A column between two cells is OpenCV's to round.
    assert (np.abs(found.confidence - sure) < 1e-3).mean() > 0.99


def test_one_tile_is_the_frame(scored: Path) -> None:
    image = smooth(1, (90, 130))
    with Segmenter(scored, "onnxruntime", 1) as segmenter:
        whole = segmenter(image)
    with Segmenter(scored, "onnxruntime", 1, tiles=(1, 1)) as segmenter:
        assert (segmenter(image) == whole).all()


@pytest.mark.parametrize(
    ("backend", "batch", "in_flight"), [("onnxruntime", 4, 1), ("openvino", 1, 3)]
)
def test_batches_and_batches_in_flight_change_nothing(
    backend: str, batch: int, in_flight: int, scored: Path, tmp_path: Path
) -> None:
    image = smooth(2, (160, 120))
    with Segmenter(scored, backend, 1, tiles=(3, 2)) as segmenter:
        alone = segmenter(image)
    bundle = short_sighted(tmp_path / "b", (48, 64), batch)
    with Segmenter(bundle, backend, 1, in_flight, tiles=(3, 2)) as segmenter:
        assert (segmenter(image) == alone).mean() > 0.999


def test_photos_of_any_size_and_the_report(
    scored: Path, tmp_path: Path, make_images: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [smooth(seed, size) for seed, size in enumerate([(101, 203), (300, 211)])]
    photos = make_images(tmp_path / "photos", images)
    config = VideoConfig(
        str(photos), scored, "onnxruntime", tiles=(2, 3), save_labels=tmp_path / "labels",
        out=tmp_path / "drawn", json=tmp_path / "r.json",
    )  # fmt: skip
    assert main(config) == 0
    for number, image in enumerate(images):
        with Image.open(tmp_path / "labels" / f"f{number}.png") as saved:
            assert (np.asarray(saved) == expected(image, (48, 64))[0]).mean() > 0.998
        with Image.open(tmp_path / "drawn" / f"f{number}.png") as drawn:
            assert drawn.size == image.shape[1::-1]
    assert json.loads((tmp_path / "r.json").read_text())["tiles"] == [2, 3]
    assert "onnxruntime, fp32; 2 × 3 tiles" in capsys.readouterr().out


def test_a_video_in_tiles_and_its_reference_as_well(
    scored: Path, tmp_path: Path, make_clip: Make
) -> None:
    clip = make_clip(tmp_path / "a.mp4", 3)
    config = VideoConfig(
        str(clip), scored, "onnxruntime", tiles=(2, 2), reference=scored, in_flight=2,
        json=tmp_path / "r.json",
    )  # fmt: skip
    assert main(config) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["frames_written"], report["drift"]["agreement"]) == (3, 1.0)


def test_labels_without_scores_are_not_cut(
    shared_bundle: Path, tmp_path: Path, make_images: Make
) -> None:
    config = VideoConfig(
        str(make_images(tmp_path / "a", 1)), shared_bundle, "onnxruntime", tiles=(2, 2)
    )
    with pytest.raises(HedgeError, match="labels without scores, so the seams between tiles"):
        main(config)
