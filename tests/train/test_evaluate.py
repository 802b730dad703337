"""Evaluation: at the labels' own resolution, with stable keys and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime import cli
from runtime.accuracy.metrics import ConfusionMatrix
from runtime.errors import HedgeError
from train.checkpoint import Checkpoint
from train.datasets import open_index
from train.evaluate import Evaluate, main
from train.evaluation.scoring import evaluate, load_model, predict


def test_report_keys_pictures_and_the_figure_itself(
    trained_run: Path, blocks: Path, tmp_path: Path
) -> None:
    main(Evaluate(trained_run, blocks, save=tmp_path / "pictures", json=tmp_path / "r.json"))
    report = json.loads((tmp_path / "r.json").read_text())
    assert {"miou", "iou", "pixel_accuracy", "boundary_f"} <= report.keys()
    assert report["iou"].keys() == {"blue", "green", "red"} and report["images"] == 3
    checkpoint = Checkpoint.load(trained_run / "best.pt")
    model, index = load_model(checkpoint), open_index(blocks, "val")
    by_hand = ConfusionMatrix(index.classes)
    for item in index.items:
        image, target = index.read(item)
        by_hand.update(target, predict(model, image, checkpoint.size, target.shape)[0])  # type: ignore[arg-type]
    assert report["miou"] == by_hand.miou() > 0.7
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert len(pictures) == 3
    assert np.asarray(Image.open(pictures[0])).shape == (48, 4 * 64, 3)  # with the edges


def test_prediction_is_at_the_size_of_the_labels(trained_run: Path) -> None:
    model = load_model(Checkpoint.load(trained_run / "best.pt"))
    image = np.random.default_rng(0).integers(256, size=(96, 130, 3), dtype=np.uint8)
    labels, edges = predict(model, image, (48, 64), (96, 130))
    assert labels.shape == (96, 130) and labels.dtype == np.uint8
    assert edges is not None and edges.shape == (48, 64) and 0 <= edges.min() <= edges.max() <= 1


def test_another_size_of_the_network(trained_run: Path, blocks: Path, tmp_path: Path) -> None:
    main(Evaluate(trained_run, blocks, size=(24, 32), json=tmp_path / "half.json"))
    report = json.loads((tmp_path / "half.json").read_text())
    checkpoint = Checkpoint.load(trained_run / "best.pt")
    model, index = load_model(checkpoint), open_index(blocks, "val")
    assert report["miou"] == evaluate(model, index, (24, 32)).confusion.miou()
    assert report["miou"] != evaluate(model, index, checkpoint.size).confusion.miou()


@pytest.mark.parametrize("size", [["0", "0"], ["64", "-5"]])
def test_a_size_that_no_network_has_is_refused(size: list[str]) -> None:
    with pytest.raises(HedgeError, match=r"--size .*: give a number from 32 to 16384"):
        cli.parse(Evaluate, "hedge evaluate", ["--size", *size])


def test_a_data_set_with_other_classes_is_refused(trained_run: Path, tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder / "val").mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / folder / "val" / "a.png")
    (tmp_path / "classes.json").write_text('{"classes": [{"name": "x", "color": [1, 2, 3]}]}')
    with pytest.raises(HedgeError, match="1 classes, but the model knows 3"):
        main(Evaluate(trained_run, tmp_path))
