"""Checkpoints: round trip, and files that are none."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from runtime.errors import HedgeError, OutputError
from train.checkpoint import Checkpoint, find_checkpoint, load_state, start_from
from train.config import ModelConfig
from train.models import DeepLab


def test_round_trip(trained_run: Path, tmp_path: Path) -> None:
    first = Checkpoint.load(trained_run / "last.pt")
    first.save(tmp_path / "copy.pt")
    second = Checkpoint.load(tmp_path / "copy.pt")
    assert (second.config, second.model, second.classes) == (
        first.config,
        first.model,
        first.classes,
    )
    assert all(torch.equal(first.weights[k], second.weights[k]) for k in first.weights)
    assert (second.epoch, second.miou, second.size) == (first.epoch, first.miou, first.size)


class Malicious:
    """Unpickling it would create the file that it was given."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def foreign(kind: str, tmp_path: Path) -> Path:
    path = tmp_path / "foreign.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Malicious(tmp_path / "ran")))
    elif kind == "torch pickle":
        torch.save({"format": Malicious(tmp_path / "ran")}, path)
    elif kind == "state dict":
        torch.save({"conv.weight": torch.zeros(1)}, path)
    elif kind == "tensor":
        torch.save(torch.zeros(3), path)
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no model at all")
    return path


@pytest.mark.parametrize(
    "kind", ["pickle", "torch pickle", "state dict", "tensor", "empty", "text", "missing"]
)
def test_foreign_files_are_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    path = foreign(kind, tmp_path)
    with pytest.raises(HedgeError, match=r"foreign\.pt: ") as caught:
        Checkpoint.load(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [10, 1000, 0.5, 0.99])
def test_truncated_checkpoints_are_refused(trained_run: Path, tmp_path: Path, keep: float) -> None:
    data = (trained_run / "best.pt").read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    with pytest.raises(HedgeError, match=r"cut\.pt"):
        Checkpoint.load(path)


def test_missing_fields_are_named(trained_run: Path, tmp_path: Path) -> None:
    content = torch.load(trained_run / "best.pt", weights_only=True)
    del content["model"]["backbone"]
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(HedgeError, match="backbone"):
        Checkpoint.load(tmp_path / "odd.pt")


def test_a_run_folder_stands_for_its_best(trained_run: Path, tmp_path: Path) -> None:
    assert find_checkpoint(trained_run) == trained_run / "best.pt"
    assert find_checkpoint(trained_run / "last.pt").name == "last.pt"
    with pytest.raises(HedgeError, match="python -m train"):
        find_checkpoint(tmp_path)


def test_state_dicts_hold_tensors_only(tmp_path: Path) -> None:
    torch.save({"a": 3}, tmp_path / "x.pt")
    with pytest.raises(HedgeError, match="no state dict"):
        load_state(tmp_path / "x.pt")


def test_a_full_disk_leaves_the_checkpoint_before(trained_run: Path, tiny_disk: Path) -> None:
    path = tiny_disk / "last.pt"
    path.write_bytes(b"the one before")
    with pytest.raises(OutputError, match=r"last\.pt: could not be written; is the disk full"):
        Checkpoint.load(trained_run / "last.pt").save(path)
    assert [p.name for p in tiny_disk.iterdir()] == ["last.pt"]
    assert path.read_bytes() == b"the one before"


def test_a_run_starts_from_another_with_other_classes_and_edges(tmp_path: Path) -> None:
    """What fits is taken; edge channels, which come last, start without a say."""
    torch.manual_seed(0)
    plain = DeepLab(ModelConfig("mobilenet_v2", num_classes=19, se="sigmoid")).eval()
    torch.save(plain.state_dict(), tmp_path / "plain.pt")
    richer = DeepLab(ModelConfig("mobilenet_v2", num_classes=5, se="sigmoid", hed="lite")).eval()
    classifier = richer.classifier.weight.clone()
    start_from(richer, tmp_path / "plain.pt")
    assert torch.equal(richer.classifier.weight, classifier)
    old, new = (m.backbone.stages[0][0][0].weight for m in (plain, richer))
    assert torch.equal(new[:, :3], old) and not new[:, 3:].any()
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        richer.classifier, plain.classifier = torch.nn.Identity(), torch.nn.Identity()
        torch.testing.assert_close(richer(image).logits, plain(image).logits)
    other = DeepLab(ModelConfig("resnet18", num_classes=19))
    with pytest.raises(HedgeError, match=r"plain\.pt: its backbone is another"):
        start_from(other, tmp_path / "plain.pt")
