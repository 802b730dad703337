"""What a training leaves to look at: pictures, history, tables, and what trackers are told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime import cli
from runtime.accuracy.metrics import ConfusionMatrix
from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError, MissingExtraError
from runtime.outputs.overlay import Overlay
from runtime.outputs.sheet import WIDTH, judged
from tests.train.test_loop import Make, rows
from train import run
from train.__main__ import main
from train.config import PRESETS, TrainConfig
from train.evaluate import Evaluate
from train.evaluate import main as evaluate
from train.loop.settings import RunConfig
from train.loop.task import Epoch
from train.record import curves, logs, pictures
from train.record.pictures import chosen


class Told:
    """A tracker of the test's own: it keeps what it is told."""

    def __init__(self, config: RunConfig, known: str | None) -> None:
        self.known, self.id = known, "seven"
        self.steps: list[tuple[int, float]] = []
        self.epochs: list[tuple[int, Epoch]] = []
        self.pictures: list[tuple[int, str]] = []
        self.closed = False

    def step(self, at: int, loss: float) -> None:
        self.steps.append((at, loss))

    def epoch(self, at: int, row: Epoch) -> None:
        self.epochs.append((at, row))

    def picture(self, at: int, path: Path) -> None:
        assert Image.open(path).format == "PNG"
        self.pictures.append((at, path.name))

    def close(self) -> None:
        self.closed = True


def test_a_run_shows_itself_and_is_told_to_a_tracker(
    tiny_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two epochs in two parts: the second part goes on, with the tracker, and grows."""
    made: list[Told] = []

    def tracker(name: str, config: RunConfig) -> Told:
        made.append(Told(config, None))
        return made[-1]

    monkeypatch.setattr(run, "tracker", tracker)
    config = tiny_config(tmp_path, until=1, log=("mlflow",))
    main(config)
    first = capsys.readouterr()
    assert first.err.count("epoch 1/2 loss ") == 1 and " val " in first.err
    assert "precision" in first.out and f"next: hedge export {config.run} --int8" in first.out
    again = replace(TrainConfig.resume(config.run), epochs=3)
    assert replace(again, resumed=None, epochs=2, until=1) == replace(config, decoder="deep")
    main(again)
    assert [row["epoch"] for row in rows(config.run)] == [1, 2, 3]
    for row in rows(config.run):
        assert row["losses"].keys() == {"cross-entropy", "jaccard", "edges"}  # type: ignore[attr-defined]
        assert row["loss"] == pytest.approx(sum(row["losses"].values()))  # type: ignore[attr-defined]
        assert 0 < row["val_loss"] < 10  # type: ignore[operator]
    one, two = made
    assert [at for at, _ in one.steps + two.steps] == [1, 2, 3, 4, 5, 6]
    assert [at for at, _ in one.epochs + two.epochs] == [2, 4, 6]
    assert one.pictures == [(0, "batch.png"), (2, "val.png")]
    assert two.pictures == [(2, "batch.png"), (6, "results.png"), (6, "val.png")]
    assert one.closed and two.closed
    assert Image.open(config.run / "val.png").width == WIDTH
    names = {path.name for path in config.run.iterdir()}
    assert {"batch.png", "val.png", "results.png", "config.json"} <= names
    # The schedule is that of three epochs from the second on: two steps each, no warm-up.
    assert rows(config.run)[1]["lr"] == pytest.approx(3e-3 * (1 - 4 / 6) ** 0.9)


def test_a_tracker_that_is_not_installed_is_named(tiny_config: Make, tmp_path: Path) -> None:
    """Before the run that --force replaces is touched."""
    config = tiny_config(tmp_path, log=("wandb",), force=True)
    config.run.mkdir()
    (config.run / "last.pt").write_bytes(b"hours of work")
    with pytest.raises(MissingExtraError, match=r"wandb not installed; pip install 'hedge-seg\[wa"):
        main(config)
    assert (config.run / "last.pt").read_bytes() == b"hours of work"


def test_a_tracker_goes_on_by_its_own_name_of_the_run(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path)
    config.run.mkdir()
    monkeypatch.setitem(logs.TRACKERS, "mlflow", Told)
    monkeypatch.setattr(cli, "require", lambda libraries, extra: None)
    assert logs.tracker("mlflow", config).known is None  # type: ignore[union-attr]
    again = logs.tracker("mlflow", replace(config, resumed=config.run))
    assert again.known == "seven"  # type: ignore[union-attr]

    def refuse(config: RunConfig, known: str | None) -> Told:
        raise ConnectionError("nobody\nanswers")

    monkeypatch.setitem(logs.TRACKERS, "mlflow", refuse)
    with pytest.raises(HedgeError, match="--log mlflow: nobody answers"):
        logs.tracker("mlflow", config)


def test_patience_ends_a_run_and_it_stays_ended(
    tiny_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(tmp_path, epochs=20, lr=1e-9, ema=None, patience=2, freeze_bn=20)
    main(config)
    done = len(rows(config.run))
    assert done < 20
    assert f"ended after epoch {done}: no better mIoU for 2" in capsys.readouterr().out
    best = max(rows(config.run), key=lambda row: row["miou"])  # type: ignore[arg-type, return-value]
    assert done - best["epoch"] == 2  # type: ignore[operator]
    main(TrainConfig.resume(config.run))
    assert len(rows(config.run)) == done
    main(replace(TrainConfig.resume(config.run), patience=3, until=done + 1))
    assert len(rows(config.run)) == done + 1


def test_options_that_are_not_given_are_those_of_the_run_or_the_preset(
    tiny_config: Make, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path, epochs=7)
    config.run.mkdir()
    (config.run / "config.json").write_text(
        json.dumps({"epochs": 7, "batch": 3, "lr": 0.5, "resume": False})
    )
    parsed = cli.parse(TrainConfig, "x", ["--resume", str(config.run), "--epochs", "60"])
    assert (parsed.epochs, parsed.batch, parsed.lr) == (60, 3, 0.5)
    assert parsed.run == config.run == parsed.resumed
    small = cli.parse(TrainConfig, "x", ["--preset=small", "--lr", "0.003"])
    assert small == replace(PRESETS["small"], lr=3e-3)
    assert cli.parse(TrainConfig, "x", []) == TrainConfig()
    with pytest.raises(HedgeError, match=r"config\.json: no such file; --resume takes the folder"):
        cli.parse(TrainConfig, "x", ["--resume", str(tmp_path)])


def test_precision_recall_and_what_is_taken_for_what() -> None:
    classes = ClassSet(("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
    matrix = ConfusionMatrix(classes)
    target = np.array([[0, 0, 0, 0, 1, 1, 255]], np.uint8)
    matrix.update(target, np.array([[0, 0, 1, 1, 1, 0, 2]], np.uint8))
    assert matrix.by_name(matrix.precision()) == {"a": 2 / 3, "b": 1 / 3, "c": None}
    assert matrix.by_name(matrix.recall()) == {"a": 0.5, "b": 0.5, "c": None}
    assert matrix.confusions() == [("a", "b", 0.5), ("b", "a", 0.5)]


def test_evaluation_names_the_worst_images_and_draws_them(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {name: tmp_path / name for name in ("sheet.png", "matrix.png", "r.json")}
    evaluate(Evaluate(trained_run, sheet=paths["sheet.png"], matrix=paths["matrix.png"],
                      json=paths["r.json"]))  # fmt: skip
    report = json.loads(paths["r.json"].read_text())
    found = list(report["miou_by_image"].items())
    assert found == sorted(found, key=lambda row: row[1]) and len(found) == 3
    counts = np.array(report["confusion"])
    assert list(report["recall"].values()) == pytest.approx(np.diag(counts) / counts.sum(1))
    assert f"{100 * found[0][1]:.2f}" in capsys.readouterr().out
    assert Image.open(paths["sheet.png"]).width == WIDTH
    assert Image.open(paths["matrix.png"]).format == "PNG"


def test_the_worst_and_the_median_are_chosen() -> None:
    miou = np.array([0.9, 0.1, np.nan, 0.5, 0.3, 0.7, 0.6, 0.8, 0.2, 0.4])
    assert list(chosen(miou)) == [1, 8, 4, 9, 3, 6]
    assert list(chosen(miou[:3])) == [1, 0]


def test_errors_are_red_where_prediction_and_label_differ() -> None:
    classes = ClassSet(("a", "b"), ((255, 0, 0), (0, 255, 0)))
    target = np.array([[0, 1, 255]], np.uint8)
    image, label, answer, errors = judged(
        np.full((1, 3, 3), 100, np.uint8), target, np.array([[0, 0, 0]], np.uint8), Overlay(classes)
    )
    assert label[0, 1].tolist() == [0, 255, 0] and answer[0, 1].tolist() == [0, 0, 255]
    assert [tuple(p) for p in errors[0]] == [(40, 40, 40), (60, 60, 255), (40, 40, 40)]
    assert image.shape == label.shape


@pytest.mark.filterwarnings("error:Glyph")
def test_names_of_classes_are_drawn_as_they_are(tmp_path: Path) -> None:
    """Dollars are no formula, and letters that a font lacks no lines of warnings."""
    classes = ClassSet(("a$_$b", "道路"), ((255, 0, 0), (0, 255, 0)))
    iou = dict.fromkeys(classes.names, 0.5)
    rows = [Epoch(epoch, 1.0, 0.5, 0.5, iou, 1e-3, 1.0, 1.0) for epoch in (1, 2)]
    curves.draw(rows, tmp_path / "results.png")
    pictures.matrix(ConfusionMatrix(classes), tmp_path / "matrix.png")
    assert {path.name for path in tmp_path.iterdir()} == {"results.png", "matrix.png"}
