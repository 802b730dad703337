"""A checkpoint to hand on: small, without traces of the machine, with its terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from runtime.bundle.manifest import Manifest
from runtime.bundle.shipped import find_bundle
from runtime.errors import HedgeError, OutputError
from train import checkpoint as checkpoints
from train.__main__ import main as train
from train.checkpoint import Checkpoint, find_checkpoint
from train.config import TrainConfig
from train.datasets import open_index
from train.evaluation.scoring import evaluate, load_model
from train.release import Release, main


def test_a_released_checkpoint_is_half_the_size_and_answers_alike(
    trained_run: Path, blocks: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small.pt"
    main(Release(trained_run, small, "CC0"))
    assert small.stat().st_size < 0.55 * (trained_run / "best.pt").stat().st_size
    content = torch.load(small, weights_only=True)
    for path in (blocks, trained_run, tmp_path):
        assert str(path) not in str({k: v for k, v in content.items() if k != "weights"})
    before, after = Checkpoint.load(trained_run / "best.pt"), Checkpoint.load(small)
    assert (after.license, after.model, after.size) == ("CC0", before.model, before.size)
    index = open_index(blocks, "val")
    scores = [evaluate(load_model(c), index, c.size).confusion.miou() for c in (before, after)]
    assert scores[1] == pytest.approx(scores[0], abs=0.002)


def test_terms_are_asked_for_and_nothing_is_overwritten(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="names no licence; say one with --license"):
        main(Release(trained_run, tmp_path / "a.pt"))
    (tmp_path / "a.pt").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"a\.pt: exists; --force"):
        main(Release(trained_run, tmp_path / "a.pt", "CC0"))
    assert (tmp_path / "a.pt").read_bytes() == b"mine"


def test_a_shipped_checkpoint_starts_a_run_by_its_name_with_its_backbone_and_terms(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tiny_config(tmp_path, name="first", backbone="timm/test_efficientnet", epochs=1)
    train(first)
    monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path / "weights")
    main(Release(first.run, tmp_path / "weights" / "town.pt", "CC0"))
    assert find_checkpoint(Path("town")) == tmp_path / "weights" / "town.pt"
    second = tiny_config(tmp_path, name="second", backbone=None, start=Path("town"), epochs=2)
    train(replace(second, until=1))
    train(replace(second, resumed=second.run))
    result = Checkpoint.load(second.run / "last.pt")
    assert (result.model.backbone, result.license) == ("timm/test_efficientnet", "CC0")
    plain = tiny_config(tmp_path, name="plain", backbone=None, epochs=1)
    train(plain)
    assert Checkpoint.load(plain.run / "last.pt").license is None
    assert Checkpoint.load(plain.run / "last.pt").model.backbone == "mobilenet_v2"


def test_the_checkpoint_in_the_box_is_of_the_bundle_in_the_box() -> None:
    checkpoint = Checkpoint.load(find_checkpoint(Path("street19")))
    manifest = Manifest.load(find_bundle(Path("street19")))
    assert load_model(checkpoint).config.backbone == manifest.backbone
    assert checkpoint.classes == manifest.classes
    assert checkpoint.license == manifest.license
    assert checkpoint.config.data is None and checkpoint.config.start is None
