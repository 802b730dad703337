"""Networks of our own training, as what is exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.own.trained import Trained
from runtime.bundle.classes import CITYSCAPES
from runtime.errors import HedgeError
from train.checkpoint import Checkpoint
from train.config import TrainConfig
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
