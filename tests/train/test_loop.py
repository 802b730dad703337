"""The training loop: what it writes, that it resumes bit-exactly, and how it ends."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.errors import GateError, HedgeError, OutputError
from train.__main__ import main
from train.checkpoint import Checkpoint, load_state
from train.config import TrainConfig
from train.datasets import open_index
from train.loop.distributed import World
from train.loop.optimize import poly
from train.loop.task import Epoch, Step
from train.loop.trainer import Trainer
from train.models.hed import HedLite
from train.run import train as train_function
from train.segmentation import SegmentationTask, _network

ROOT = Path(__file__).parents[2]
Make = Callable[..., TrainConfig]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return Checkpoint.load(path).weights


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def rows(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_its_files_and_learns(trained_run: Path, blocks: Path) -> None:
    assert {"config.json", "metrics.jsonl", "best.pt", "last.pt", "tensorboard"} <= {
        path.name for path in trained_run.iterdir()
    }
    history = rows(trained_run)
    assert [row["epoch"] for row in history] == list(range(1, 15))
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]  # type: ignore[operator]
    best = Checkpoint.load(trained_run / "best.pt")
    assert best.miou == max(row["miou"] for row in history) > 0.7  # type: ignore[type-var]
    assert best.classes == open_index(blocks, "train").classes
    assert json.loads((trained_run / "config.json").read_text())["variant"] == "dlse_hed"


def test_only_the_epochs_asked_for_are_validated_and_the_last(
    tiny_config: Make, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path, epochs=3, validate_every=2)
    main(config)
    scores = [row["miou"] for row in rows(config.run)]
    assert scores[0] is None and None not in scores[1:]
    assert Checkpoint.load(config.run / "best.pt").miou == max(scores[1:])  # type: ignore[type-var]
    main(replace(config, until=1, force=True))
    assert rows(config.run)[0]["miou"] == Checkpoint.load(config.run / "best.pt").miou


@pytest.mark.parametrize("epoch", [1, 2])
def test_ctrl_c_in_the_middle_of_an_epoch_loses_nothing(
    tiny_config: Make, tmp_path: Path, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path / "b")
    train, val = open_index(config.data, "train"), open_index(config.data, "val")  # type: ignore[arg-type]
    world = World(0, 1, torch.device("cpu"))
    trainer = Trainer(config, SegmentationTask(config, train, val, world), world)

    def interrupt(step: Step) -> None:
        if (step.epoch, step.step) == (epoch, 1):
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(interrupt, lambda epoch: None)
    assert signal.getsignal(signal.SIGINT) is handler

    def die(self: Trainer, on_step: object, on_epoch: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "run", die)
        main(replace(config, resumed=config.run))  # which is killed before it could save
    saved = Checkpoint.load(config.run / "last.pt")
    assert (saved.epoch, saved.step) == (epoch - 1, 1)
    main(replace(config, resumed=config.run))
    whole = tiny_config(tmp_path / "a")
    main(whole)
    assert_same(weights(whole.run / "last.pt"), weights(config.run / "last.pt"))
    told = {row["epoch"]: row["loss"] for row in rows(config.run)}
    assert told[epoch] == rows(whole.run)[epoch - 1]["loss"], "of all steps, also those before"


def test_training_is_a_function_that_threads_can_call(
    tiny_config: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No output, no signal handlers, errors as HedgeError; a resumed history is whole."""
    config, steps, epochs = tiny_config(tmp_path), list[Step](), list[Epoch]()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(train_function, replace(config, until=1)).result()
        again = replace(config, resumed=config.run)
        result = thread.submit(train_function, again, steps.append, epochs.append).result()
        with pytest.raises(OutputError, match=r"--resume .* continues it"):
            thread.submit(train_function, config).result()
    assert capfd.readouterr() == ("", "")
    assert [(step.epoch, step.step, step.steps) for step in steps] == [(2, 1, 2), (2, 2, 2)]
    assert [epoch.epoch for epoch in result.history] == [1, 2] and [result.history[1]] == epochs
    best = max(result.history, key=lambda epoch: epoch.miou or 0)
    assert (result.path, result.miou, result.iou) == (config.run, best.miou, best.iou)
    assert result.miou == Checkpoint.load(result.path / "best.pt").miou
    assert list(result.iou) == ["blue", "green", "red"]


def test_a_loss_stride_compares_every_pixel_in_turn(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, loss_stride=2)
    index = open_index(config.data, "train")  # type: ignore[arg-type]
    task = SegmentationTask(config, index, index, World(0, 1, torch.device("cpu")))
    image, pixels = torch.zeros(1, 3, 6, 8), torch.arange(48).reshape(1, 6, 8)
    seen = []
    for step in range(4):
        kept, labels, edges = task.prepare([image, pixels, pixels], step)
        assert kept.shape == image.shape and torch.equal(labels, edges)
        answer, _ = task.forward(task.network.eval(), image, labels)
        assert answer.logits.shape[-2:] == labels.shape[1:]
        seen += labels.flatten().tolist()
    assert sorted(seen) == list(range(48))


def test_ctrl_c_in_a_terminal(tiny_config: Make, tmp_path: Path) -> None:
    """SIGINT to the whole process group, loader processes and all: exit 130, a checkpoint left."""
    config = tiny_config(tmp_path)
    command = [sys.executable, "-m", "train", "--data", str(config.data), "--out", str(tmp_path),
               "--name", "tiny", "--batch", "4", "--epochs", "500", "--workers", "1"]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 1/"):
            break
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130, rest
    assert "Traceback" not in rest and rest.rstrip().endswith("error: interrupted")
    assert Checkpoint.load(config.run / "last.pt").epoch >= 1


def test_nan_loss_stops_and_names_the_step(tiny_config: Make, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"loss is (nan|inf) at step \d+ of epoch \d+"):
        main(tiny_config(tmp_path, lr=1e9, epochs=30, amp=False))


def test_frozen_edge_weights_do_not_move(tiny_config: Make, tmp_path: Path) -> None:
    """A run that goes on has them in its checkpoint."""
    source = tmp_path / "edges.pt"
    torch.save(HedLite().state_dict(), source)
    config = tiny_config(tmp_path, hed="lite", edge_weights=source)
    main(replace(config, until=1))
    before = load_state(source)
    source.unlink()
    main(replace(config, resumed=config.run))
    after = weights(config.run / "last.pt")
    assert all(torch.equal(before[key], after[f"hed.{key}"]) for key in before)
    # Those that are named go before those of the run that is started from.
    other = {name: tensor + 1 for name, tensor in before.items()}
    torch.save(other, source)
    hed = _network(replace(config, start=config.run), 4).hed
    assert hed is not None
    assert all(torch.equal(other[key], tensor) for key, tensor in hed.state_dict().items())


def test_edge_weights_that_no_network_takes_are_refused(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, edge_weights=tmp_path / "edges.pt")
    with pytest.raises(HedgeError, match=r"edges\.pt: this model has no edge network.*--hed lite"):
        main(config)
    assert not config.run.exists()


def test_poly_schedule_warms_up_and_decays_to_zero() -> None:
    factor = poly(1000)
    values = [factor(step) for step in range(1001)]
    peak = int(np.argmax(values))
    assert 0 < peak <= 50 and values[peak] > 0.9 and values[-1] == 0
    assert all(b < a for a, b in zip(values[peak:], values[peak + 1 :], strict=False))


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0}, {"ohem": 2.0}, {"ema": 1.0}, {"lr": -1.0}, {"jaccard": -1.0},
        {"validate_every": 0},
    ],
)  # fmt: skip
def test_senseless_settings_are_named(tiny_config: Make, tmp_path: Path, change: dict) -> None:
    option = next(iter(change)).replace("_", "-")
    with pytest.raises(HedgeError, match=f"--{option}"):
        tiny_config(tmp_path, **change)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_one_line(
    tiny_config: Make, blocks: Path, tmp_path: Path, workers: int
) -> None:
    data = tmp_path / "data"
    shutil.copytree(blocks, data)
    image = data / "images" / "train" / "train5.png"
    image.write_bytes(image.read_bytes()[:500])
    with pytest.raises(HedgeError, match=r"train5\.png: not a readable image") as caught:
        main(tiny_config(tmp_path, data=data, workers=workers, epochs=1))
    assert "Traceback" not in str(caught.value)
    assert not multiprocessing.active_children(), "Python's exit waits for them"
