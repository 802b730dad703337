"""A run that another one teaches: its scores as targets, its classes, its terms, its resumption."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from runtime.bundle.classes import IGNORE
from runtime.errors import HedgeError
from tests.train.loop.test_steps import task_of
from tests.train.test_loop import Make, rows
from train.checkpoint import Checkpoint
from train.config import TrainConfig
from train.losses import teacher_loss
from train.release import Release
from train.release import main as release
from train.run import train

FAST = {"variant": "vanilla", "epochs": 2}


def renamed(data: Path, copy: Path, names: list[str]) -> Path:
    """A copy of a data set whose class list is of these names."""
    shutil.copytree(data, copy)
    listed = json.loads((copy / "classes.json").read_bytes())
    for row, name in zip(listed["classes"], names, strict=True):
        row["name"] = name
    (copy / "classes.json").write_text(json.dumps(listed))
    return copy


def test_who_answers_as_the_teacher_has_nothing_to_learn_of_it() -> None:
    torch.manual_seed(0)
    taught, logits = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8, requires_grad=True)
    assert teacher_loss(taught + 5, taught) == pytest.approx(0, abs=1e-6)
    loss = teacher_loss(logits, taught)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss > 0.1 and teacher_loss(logits - 50 * gradient, taught) < loss
    halves = [teacher_loss(logits[part], taught[part]) for part in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(sum(halves) / 2, loss)


def test_the_teachers_scores_are_those_of_its_classes_by_name(
    trained_run: Path, tiny_config: Make, blocks: Path, tmp_path: Path
) -> None:
    own = Checkpoint.load(trained_run / "best.pt").classes.names
    turned = renamed(blocks, tmp_path / "turned", [*own[1:], own[0]])
    image, labels = torch.rand(1, 3, 48, 64), torch.full((1, 48, 64), IGNORE, dtype=torch.uint8)
    losses, taught = [], []
    for data in (blocks, turned):
        task = task_of(tiny_config(tmp_path, data=data, start=trained_run, teacher=trained_run))
        answer, scores = task.forward(task.network.eval(), image, labels)
        assert scores is not None and not scores.requires_grad
        taught.append(scores)
        losses.append(task.losses((answer, scores), labels, labels)["teacher"].item())
    assert torch.equal(taught[0][:, [1, 2, 0]], taught[1])
    assert losses[0] == pytest.approx(0, abs=1e-6) and losses[1] > 0.1  # also without labels
    other = renamed(blocks, tmp_path / "other", ["blue", "green", "car"])
    with pytest.raises(HedgeError, match=r"--teacher .*1 missing \(car\); 1 unexpected \(red\)"):
        task_of(tiny_config(tmp_path, data=other, teacher=trained_run))


def test_a_taught_run_goes_on_with_its_teacher_and_under_its_terms(
    trained_run: Path, tiny_config: Make, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher.pt"
    release(Release(trained_run, teacher, "CC0"))
    config = tiny_config(tmp_path, teacher=teacher, teacher_weight=0.5, **FAST)
    train(replace(config, until=1))
    with pytest.raises(HedgeError, match=r"other settings \(teacher .*teacher\.pt → None"):
        train(replace(TrainConfig.resume(config.run), teacher=None))
    moved = teacher.rename(tmp_path / "moved.pt")
    train(replace(TrainConfig.resume(config.run), teacher=moved))
    assert [row["losses"]["teacher"] > 0 for row in rows(config.run)] == [True, True]  # type: ignore[index]
    release(Release(config.run, tmp_path / "pupil.pt"))
    pupil = Checkpoint.load(tmp_path / "pupil.pt")
    assert (pupil.license, pupil.config.teacher) == ("CC0", None)
