"""Networks of our own training, as what is exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from export.config import Export
from export.own.trained import Trained
from export.task import Task
from runtime.bundle.classes import CITYSCAPES
from runtime.errors import HedgeError
from train.checkpoint import Checkpoint
from train.config import TrainConfig
from train.datasets import open_index
from train.models import DeepLab


def test_a_size_that_the_backbone_does_not_take_is_told_and_a_run_has_its_folders_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the folder is the current one."""
    config = TrainConfig(variant="vanilla", backbone="timm/dla46_c")
    model = config.model(len(CITYSCAPES))
    weights = DeepLab(model).state_dict()
    run = tmp_path / "runs" / "mine"
    Checkpoint(config, model, CITYSCAPES, (64, 96), weights, 1, 1, 0.5).save(run / "best.pt")
    monkeypatch.chdir(run)
    network = Trained.open(Path())
    assert network.facts.name == "mine"
    with pytest.raises(HedgeError, match="takes no images of 65×97"):
        network.deployed((65, 97), (65, 97))
    released = (run / "best.pt").rename(tmp_path / "street.pt")
    assert Trained.open(released).facts.name == "street"
    assert Trained.open(Path("street19")).facts.name == "street19"


def test_a_data_set_to_calibrate_with_is_verified_on_where_the_own_one_is_not_here(
    tmp_path: Path, blocks: Path
) -> None:
    """It was taken for a folder of images, without any, behind the whole calibration."""
    classes = open_index(blocks, "val").classes
    config = TrainConfig(variant="vanilla", backbone="timm/test_resnet", data=tmp_path / "gone")
    model = config.model(len(classes))
    weights = DeepLab(model).state_dict()
    network = Trained(Checkpoint(config, model, classes, (48, 64), weights, 1, 1, 0.5), "tiny")
    asked = Export(int8=True, calibration_data=blocks)
    task = Task(asked, network, tmp_path / "tiny-int8", (48, 64), (48, 64), tmp_path, tmp_path)
    frames = task.frames()
    assert (frames.data, frames.split, frames.count) == (blocks.name, "val", 3)
    assert len(task.images().paths) == 8
    with pytest.raises(HedgeError, match="gone: not on this machine, and INT8 needs real images"):
        replace(task, config=Export(int8=True)).images()
