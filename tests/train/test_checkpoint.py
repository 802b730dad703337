"""Checkpoints: round trip, and files that are none."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError, OutputError
from train.checkpoint import (
    Checkpoint,
    find_checkpoint,
    last_good,
    load_state,
    start_from,
    write_tensors,
)
from train.config import ModelConfig, TrainConfig
from train.evaluation.scoring import load_model
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


def rewritten(source: Path, path: Path, *keys: str, value: object = None) -> Path:
    """A copy with one value changed, and without the digest, as a stranger may send it."""
    content = torch.load(source, weights_only=True)
    del content["digest"]
    place = content
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    torch.save(content, path)
    return path


def test_missing_fields_are_named(untrained: Path, tmp_path: Path) -> None:
    path = rewritten(untrained, tmp_path / "odd.pt", "model", "backbone")
    with pytest.raises(HedgeError, match="backbone"):
        Checkpoint.load(path)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that ``load_model`` takes."""
    path = tmp_path_factory.mktemp("run") / "best.pt"
    config = TrainConfig(backbone="mobilenet_v2", out=path.parent)
    classes = ClassSet(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    weights = DeepLab(config.model(3)).state_dict()
    Checkpoint(config, config.model(3), classes, (48, 64), weights, 1, 0, 0.5).save(path)
    load_model(Checkpoint.load(path))
    return path


def endless() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


CRAFTED = {
    "no weights": (("weights",), {}),
    "a list": (("weights",), [1, 2]),
    "a missing tensor": (("weights", "classifier.bias"), None),
    "a foreign tensor": (("weights", "extra"), torch.zeros(1)),
    "another shape": (("weights", "classifier.bias"), torch.zeros(4)),
    "another type": (("weights", "classifier.bias"), torch.zeros(3, dtype=torch.int64)),
    "not a number": (("weights", "classifier.bias"), torch.full((3,), torch.nan)),
    "more than the file": (("weights", "classifier.bias"), torch.zeros(1).expand(1 << 40)),
    "sparse": (("weights", "classifier.bias"), torch.zeros(3).to_sparse()),
    "other classes": (("model", "num_classes"), 10**9),
    "a backbone that is none": (("model", "backbone"), ".."),
    "a huge rate": (("model", "atrous_rates"), [6, 10**9]),
    "a negative size": (("size",), [-48, 64]),
    "three sides": (("size",), [48, 64, 3]),
    "no epoch": (("epoch",), "many"),
    "a list of training": (("training",), [1]),
    "a hundred names": (("classes", "names"), ["x"] * 100),
    "a text of classes": (("classes",), "road"),
    "a name of a class": (("config",), {"variant": "none"}),
    "an endless list": (("epoch",), endless()),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_checkpoints_are_refused_in_one_line(
    kind: str, untrained: Path, tmp_path: Path
) -> None:
    keys, value = CRAFTED[kind]
    path = tmp_path / "crafted.pt"
    with pytest.raises(HedgeError, match=r"crafted\.pt: ") as caught:
        rewritten(untrained, path, *keys, value=value)
        load_model(Checkpoint.load(path))
    assert "\n" not in str(caught.value)


def small(path: Path) -> Checkpoint:
    """A checkpoint whose file is a few kilobytes, most of them structure."""
    weights = {f"layer{i}.weight": torch.arange(8.0) * (i + 1) for i in range(4)}
    config = TrainConfig(out=path.parent)
    checkpoint = Checkpoint(
        config, config.model(2), ClassSet(("a", "b"), ((0, 0, 0), (1, 1, 1))), (48, 64), weights,
        epoch=3, step=0, miou=0.5, training={"best": 0.5, "model": dict(weights)},
    )  # fmt: skip
    checkpoint.save(path)
    return checkpoint


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A bit, a byte, a block of zeros, a cut end, a lost or a doubled block."""
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
    bit = bytes([data[at] ^ (1 << int(rng.integers(8)))])
    ways = (
        data[:at] + bit + data[at + 1 :],
        data[:at] + bytes([int(rng.integers(256))]) + data[at + 1 :],
        data[:at] + bytes(length) + data[at + length :],
        data[:at],
        data[:at] + data[at + length :],
        data[:at] + data[at : at + length] + data[at:],
    )
    return ways[int(rng.integers(len(ways)))]


def test_damage_is_an_error_and_never_other_weights(tmp_path: Path) -> None:
    """Of 400 damaged files each is refused, or holds what was written (damage in padding)."""
    path, rng = tmp_path / "best.pt", np.random.default_rng(0)
    whole = small(path)
    data, refused = path.read_bytes(), 0
    for _ in range(400):
        path.write_bytes(damaged(data, rng))
        try:
            loaded = Checkpoint.load(path)
        except HedgeError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        assert [
            k for k in whole.weights if not torch.equal(whole.weights[k], loaded.weights[k])
        ] == []
        assert replace(loaded, weights=whole.weights, training=whole.training) == whole
    assert refused > 200


def test_a_value_changed_by_hand_does_not_match_the_digest(tmp_path: Path) -> None:
    """The file's own checksums agree; only the digest tells."""
    small(tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    content["weights"]["layer2.weight"][3] += 1e-6
    torch.save(content, tmp_path / "b.pt")
    with pytest.raises(HedgeError, match=r"b\.pt: damaged: .* digest"):
        Checkpoint.load(tmp_path / "b.pt")


def test_a_flipped_bit_in_a_bare_state_dict_is_found(tmp_path: Path) -> None:
    write_tensors(tmp_path / "edges.pt", {"a": torch.ones(1000)})
    data = bytearray((tmp_path / "edges.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "edges.pt").write_bytes(data)
    with pytest.raises(HedgeError, match=r"edges\.pt: damaged: .*CRC"):
        load_state(tmp_path / "edges.pt")


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path: Path) -> None:
    """Before it has: 14 MB took 3.5 GiB."""
    write_tensors(tmp_path / "whole.pt", {"a": torch.zeros(1000)})
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as whole,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for part in whole.infolist():
            bomb.writestr(part.filename, whole.read(part))
    with pytest.raises(HedgeError, match=r"bomb\.pt: compressed, as PyTorch saves none"):
        load_state(tmp_path / "bomb.pt")


def test_a_checkpoint_without_digest_is_read_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = small(tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    del content["digest"]
    torch.save(content, tmp_path / "a.pt")
    loaded = Checkpoint.load(tmp_path / "a.pt")
    assert torch.equal(loaded.weights["layer3.weight"], whole.weights["layer3.weight"])
    assert "a.pt: of an earlier version" in capsys.readouterr().err


def test_the_last_good_checkpoint_is_taken_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "last.pt"
    first = small(path)
    replace(first, epoch=4).save(path)
    assert last_good(path, Checkpoint.load).epoch == 4
    path.write_bytes(path.read_bytes()[:-100])
    assert last_good(path, Checkpoint.load).epoch == 3
    assert "previous.pt is taken instead" in capsys.readouterr().err
    (tmp_path / "previous.pt").write_bytes(b"")
    with pytest.raises(HedgeError, match=r"previous\.pt"):
        last_good(path, Checkpoint.load)


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


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2", "timm/resnet10t"])
def test_a_run_starts_from_one_without_gates(backbone: str, tmp_path: Path) -> None:
    """Gates change the names of the layers beside them, and nothing that these answer."""
    plain = DeepLab(ModelConfig(backbone, num_classes=5)).eval()
    gated = DeepLab(ModelConfig(backbone, num_classes=5, se="sigmoid")).eval()
    image = torch.rand(1, 3, 32, 48)
    for start, network in ((plain, gated), (gated, plain)):
        torch.save(start.state_dict(), tmp_path / "start.pt")
        for parameter in network.parameters():
            torch.nn.init.zeros_(parameter)
        start_from(network, tmp_path / "start.pt")
        with torch.no_grad():
            torch.testing.assert_close(network(image).logits, start(image).logits)


def test_a_run_starts_from_no_relative_of_its_backbone(tmp_path: Path) -> None:
    torch.save(DeepLab(ModelConfig("mobilenet_v2", 5)).state_dict(), tmp_path / "start.pt")
    with pytest.raises(HedgeError, match=r"start\.pt: its backbone is another"):
        start_from(DeepLab(ModelConfig("mobilenet_v3_large", 5)), tmp_path / "start.pt")
