"""An edge network that another one teaches: the teacher's maps, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import json
from PIL import Image

from runtime.bundle.classes import IGNORE
from runtime.errors import HedgeError
from tests.train.hed.test_hed import SIZE, drawings, tiny
from train.datasets import bsds
from train.datasets.bsds import Drawing
from train.hed import teacher
from train.hed.__main__ import main
from train.hed.config import HedConfig
from train.hed.crops import Crops
from train.hed.evaluate import EvaluateEdges
from train.hed.evaluate import main as evaluate
from train.hed.start import start
from train.hed.teacher import CACHE, blended, soft_edges
from train.models.hed import HedLite

__all__ = ["drawings", "tiny"]  # fixtures
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an edge network that has learned nothing."""
    run = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    torch.save(HedLite().state_dict(), run / "edges.pt")
    return run


def test_people_and_teacher_share_a_target_and_where_people_doubt_it_is_the_teachers() -> None:
    target = np.array([[0, 254, IGNORE, 0, 254]], np.uint8)
    taught = np.array([[0, 254, 100, 100, 54]], np.uint8)
    assert blended(target, taught, 0.5).tolist() == [[0, 254, 100, 50, 154]]
    assert blended(target, taught, 1).tolist() == taught.tolist()


def test_a_teachers_edges_move_with_the_crop() -> None:
    """A picture that is its own edge map: whatever the crop does to one it does to the other."""
    random = np.random.default_rng(0)
    soft = np.kron(random.integers(0, 255, (20, 20), np.uint8), np.ones((12, 12), np.uint8))
    drawing = Drawing(Path("a"), np.dstack([soft] * 3), np.zeros((3, *soft.shape), bool))
    crops = Crops([drawing], 96, (0.3, 1.3), 0.5, [soft], 1.0)
    outside = 0
    for seed in range(8):
        image, target = crops[(0, seed)]
        seen = target != IGNORE
        outside += int((~seen).sum())
        assert (image[0].int() - target)[seen].abs().max() <= 1
        assert target[seen].float().std() > 30
    assert 0 < outside < 8 * 96 * 96 / 2  # small scales: beyond the image nobody teaches


def test_a_teachers_edges_lie_where_it_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """At half the size of odd sides they were a pixel off, most at the right."""
    image = np.zeros((101, 161, 3), np.uint8)
    image[95:97] = image[:, 155:157] = 254
    monkeypatch.setattr(teacher, "SCALES", (0.5,))
    monkeypatch.setattr(teacher, "edge_map", lambda _, seen: seen[..., 0])
    drawn = teacher._drawn(HedLite(), image).astype(float)
    assert abs(np.average(np.arange(161), weights=drawn[50]) - 155.5) < 0.25
    assert abs(np.average(np.arange(101), weights=drawn[:, 50]) - 95.5) < 0.25


def test_maps_are_drawn_once_and_anew_where_the_file_is_damaged(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = [np.random.default_rng(i).integers(0, 255, (*SIZE, 3), np.uint8) for i in range(2)]
    images = [Drawing(Path("a"), image, np.zeros((1, *SIZE), bool)) for image in noise]
    first = soft_edges(weights, images, tmp_path, CPU)
    assert [edges.shape for edges in first] == [SIZE, SIZE] and first[0].max() <= 254
    drawn = list[int]()
    draw = teacher._drawn
    monkeypatch.setattr(teacher, "_drawn", lambda *given: drawn.append(1) or draw(*given))
    again = soft_edges(weights / "edges.pt", images, tmp_path, CPU)
    assert not drawn and all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    kept = sorted(tmp_path.iterdir())[0]
    kept.write_bytes(kept.read_bytes()[:-5])
    again = soft_edges(weights, images, tmp_path, CPU)
    assert len(drawn) == 1 and all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_taught_run_resumes_and_needs_weights_of_an_edge_network(
    tiny: Callable[..., HedConfig], weights: Path, tmp_path: Path
) -> None:
    config = tiny(tmp_path, teacher=weights, until=1)
    main(config)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / CACHE).iterdir()}
    assert len(kept) == 8
    main(HedConfig.resume(config.run))
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / CACHE).iterdir()}
    assert len((config.run / "metrics.jsonl").read_bytes().splitlines()) == 2
    assert json.decode((config.run / "config.json").read_bytes())["teacher"] == str(weights)
    with pytest.raises(HedgeError, match=r"metrics\.jsonl: "):
        main(tiny(tmp_path / "b", teacher=config.run / "metrics.jsonl"))


def test_a_training_starts_from_a_run(weights: Path) -> None:
    torch.manual_seed(1)
    hed = HedLite()
    start(hed, str(weights))
    torch.testing.assert_close(hed.state_dict(), torch.load(weights / "edges.pt"))


def test_any_detectors_maps_teach_as_they_are(
    tiny: Callable[..., HedConfig], drawings: Path, tmp_path: Path
) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    read = [pair.read() for pair in bsds.pairs(drawings, "train")]
    ramp = np.linspace(0, 255, SIZE[0] * SIZE[1]).round().astype(np.uint8).reshape(SIZE)
    for drawing in read:
        Image.fromarray(ramp).save(maps / f"{drawing.file.stem}.png")
    for edges in soft_edges(maps, read, tmp_path / "cache", CPU):
        assert edges.max() == 254 and np.abs(edges - ramp * (254 / 255)).max() <= 0.5
    assert not (tmp_path / "cache").exists()
    main(tiny(tmp_path, teacher=maps, until=1))
    Image.fromarray(ramp[1:]).save(maps / f"{read[-1].file.stem}.png")
    with pytest.raises(HedgeError, match=r"maps/\d+\.png: \d+x\d+, but \d+\.\w+ is \d+x\d+; they"):
        main(tiny(tmp_path / "b", teacher=maps))
    with pytest.raises(HedgeError, match=r"0\.png: no such map; .* neither edges\.pt nor"):
        main(tiny(tmp_path / "b", teacher=tmp_path))


def test_maps_of_zeros_and_ones_or_in_black_on_white_teach_nothing(
    drawings: Path, tmp_path: Path
) -> None:
    """Both were learned without a word: no edges at all, and edges everywhere."""
    read = [pair.read() for pair in bsds.pairs(drawings, "val")]

    def save(values: list[np.ndarray]) -> None:
        for drawing, edges in zip(read, values, strict=True):
            Image.fromarray(edges).save(tmp_path / f"{drawing.file.stem}.png")

    save([drawing.boundaries[0].astype(np.uint8) for drawing in read])
    with pytest.raises(HedgeError, match="no map has a value above 1; an edge is up to 255"):
        soft_edges(tmp_path, read, tmp_path, CPU)
    with pytest.raises(HedgeError, match="no map has a pixel above the lowest threshold"):
        evaluate(EvaluateEdges(tmp_path, drawings, workers=1))
    save([np.where(drawing.boundaries[0], np.uint8(0), np.uint8(255)) for drawing in read])
    with pytest.raises(HedgeError, match=r"0\.png: most of it is white, which is edge here; inv"):
        soft_edges(tmp_path, read, tmp_path, CPU)
    with pytest.raises(HedgeError, match=r"0\.png: most of it is white"):
        evaluate(EvaluateEdges(tmp_path, drawings, workers=1))
