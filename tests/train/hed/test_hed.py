"""Training on drawings: from .mat files to weights that the rest of the product takes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torch import nn
from torchvision import models as tv

from runtime.bundle.classes import IGNORE
from runtime.errors import HedgeError, OutputError
from train.checkpoint import load_state
from train.datasets import bsds
from train.edges import Edges
from train.edges import main as draw
from train.hed.__main__ import main
from train.hed.config import HedConfig
from train.hed.crops import Crops, edge_target
from train.hed.evaluate import EvaluateEdges
from train.hed.evaluate import main as evaluate
from train.hed.start import start
from train.loop.display import Display
from train.loop.task import Step
from train.models.blocks import IMAGENET_MEAN, IMAGENET_STD
from train.models.hed import HedFpn, HedLite, HedVgg16, load_hed_weights

SIZE = (144, 192)  # people differ by a pixel: less than the tolerance, 1.8


def save_truth(path: Path, people: list[np.ndarray]) -> None:
    """Write boundary maps as BSDS500 does: a cell array of structs."""
    cells = np.empty((1, len(people)), object)
    for index, person in enumerate(people):
        cells[0, index] = {"Segmentation": np.ones(SIZE, np.uint16), "Boundaries": person}
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"groundTruth": cells}, do_compression=True)


def scene(random: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """A bright rectangle on dark, and how three people drew it: one a pixel too wide."""
    top, left = random.integers(16, 48, 2)
    inside = np.zeros(SIZE, np.uint8)
    inside[top : top + 72, left : left + 100] = 1
    image = np.where(inside[..., None] > 0, (220, 180, 60), (40, 60, 90))
    image = np.clip(image + random.normal(0, 8, (*SIZE, 3)), 0, 255).astype(np.uint8)
    people = []
    for wider in (0, 0, 1):
        drawn = np.zeros(SIZE, np.uint8)
        y, x = slice(top - wider, top + 72 + wider), slice(left - wider, left + 100 + wider)
        drawn[y, x] = 1
        drawn[top - wider + 1 : top + 71 + wider, left - wider + 1 : left + 99 + wider] = 0
        people.append(drawn)
    return image, people


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree like BSDS500's: 8 + 3 images."""
    root = tmp_path_factory.mktemp("bsds")
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        (root / "images" / split).mkdir(parents=True)
        for index in range(count):
            image, people = scene(random)
            Image.fromarray(image).save(root / "images" / split / f"{index}.png")
            save_truth(root / "groundTruth" / split / f"{index}.mat", people)
    return root


@pytest.fixture(scope="module")
def tiny(drawings: Path) -> Callable[..., HedConfig]:
    """A training of a second an epoch or less; keywords change its settings."""

    def make(out: Path, **changes: Any) -> HedConfig:
        settings: dict[str, Any] = {
            "data": drawings, "out": out, "name": "tiny", "epochs": 2, "batch": 4, "crop": 64,
            "ema": 0.8,
        }  # fmt: skip
        return HedConfig(**settings | changes)

    return make


@pytest.fixture(scope="module")
def run(tiny: Callable[..., HedConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned its data set."""
    config = tiny(tmp_path_factory.mktemp("runs"), epochs=60, crop=128, lr=1e-2)
    main(config)
    return config.run


def test_the_reader_averages_people(drawings: Path) -> None:
    pairs = bsds.pairs(drawings, "val")
    assert [pair.image.stem for pair in pairs] == ["0", "1", "2"]
    drawing = pairs[0].read()
    assert drawing.boundaries.shape == (3, *SIZE) and drawing.boundaries.dtype == bool
    assert sorted(set(drawing.agreement.ravel().tolist())) == pytest.approx([0, 1 / 3, 2 / 3])


def test_the_tree_of_kaggle_is_read(drawings: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(drawings / "images")
    (tmp_path / "ground_truth").symlink_to(drawings / "groundTruth")
    assert len(bsds.pairs(tmp_path, "val")) == 3


def test_edges_of_other_sets_are_pictures_of_one_person(drawings: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(drawings / "images")
    truth = tmp_path / "groundTruth" / "val"
    truth.mkdir(parents=True)
    for pair in bsds.pairs(drawings, "val"):
        one = pair.read().boundaries[0]
        Image.fromarray(one * np.uint8(200)).save(truth / f"{pair.image.stem}.png")
    for pair, same in zip(bsds.pairs(drawings, "val"), bsds.pairs(tmp_path, "val"), strict=True):
        np.testing.assert_array_equal(same.read().boundaries, pair.read().boundaries[:1])
    Image.fromarray(one.astype(np.uint8)).save(truth / "0.png")
    with pytest.raises(HedgeError, match=r"0\.png: its brightest value is 1; an edge is 255"):
        bsds.pairs(tmp_path, "val")[0].read()


def test_what_the_reader_refuses(drawings: Path, tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="takes BSDS500's data folder"):
        bsds.pairs(tmp_path, "train")
    (tmp_path / "images" / "train").mkdir(parents=True)
    image = tmp_path / "images" / "train" / "a.png"
    Image.new("RGB", SIZE[::-1]).save(image)
    with pytest.raises(HedgeError, match=r"a\.png: no a\.mat \(or \.png\) in .*groundTruth"):
        bsds.pairs(tmp_path, "train")
    truth = tmp_path / "groundTruth" / "train" / "a.mat"
    good = (drawings / "groundTruth" / "train" / "0.mat").read_bytes()
    truth.parent.mkdir(parents=True)
    savemat(truth, {"groundTruth": np.ones(3)}, do_compression=False)
    strange = truth.read_bytes()[:144] + b"\xff" + truth.read_bytes()[145:]
    cut = good[: len(good) // 2]
    for content in (b"", b"no mat", cut, good[:200] + bytes(100) + good[300:], strange):
        truth.write_bytes(content)
        with pytest.raises(HedgeError, match=r"a\.mat: not a "):
            bsds.pairs(tmp_path, "train")[0].read()
    truth.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\x02IM" + bytes(400))
    with pytest.raises(HedgeError, match=r"a\.mat: not a .* MATLAB 7\.3 file.* -v7"):
        bsds.pairs(tmp_path, "train")[0].read()
    savemat(truth, {"other": 1})
    with pytest.raises(HedgeError, match=r"a\.mat: not a BSDS500 ground truth"):
        bsds.pairs(tmp_path, "train")[0].read()
    save_truth(truth, [np.zeros((10, 12), np.uint8)])
    with pytest.raises(HedgeError, match=r"a\.mat: 12x10, but a\.png is 192x144"):
        bsds.pairs(tmp_path, "train")[0].read()


def test_pixels_that_too_few_drew_count_neither_way() -> None:
    agreement = np.array([[0, 0.01, 0.2, 0.3, 0.9, -0.5]], np.float32)
    assert edge_target(agreement, 0.3).tolist() == [[0, 0, IGNORE, 254, 254, IGNORE]]


def test_a_crop_is_its_seeds_and_keeps_image_and_edges_together(drawings: Path) -> None:
    crops = Crops([p.read() for p in bsds.pairs(drawings, "train")], 128, (0.8, 1.3), 0.5)
    targets = set()
    for seed in range(8):
        image, target = crops[(0, seed)]
        assert image.shape == (3, 128, 128) and target.shape == (128, 128)
        torch.testing.assert_close(crops[(0, seed)], (image, target))
        targets.add(target.numpy().tobytes())
        bright = image[0].numpy() > 130
        rim = np.zeros_like(bright)
        rim[1:-1, 1:-1] = bright[1:-1, 1:-1] & ~(
            bright[:-2, 1:-1] & bright[2:, 1:-1] & bright[1:-1, :-2] & bright[1:-1, 2:]
        )
        edge = np.pad(target.numpy() == 254, 2)
        near = np.any(
            [edge[i : i + 128, j : j + 128] for i in range(5) for j in range(5)], axis=0
        )  # within 2 pixels
        known = target.numpy() != IGNORE
        assert (near | ~known)[rim].mean() > 0.97
    assert len(targets) == 8


def test_it_learns_and_its_weights_serve_the_other_commands(
    run: Path, drawings: Path, tmp_path: Path
) -> None:
    rows = [msgspec.json.decode(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 61))
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    load_hed_weights(HedFpn(), run / "edges.pt")  # what train --edge-weights does
    evaluate(
        EvaluateEdges(run, drawings, workers=1, json=tmp_path / "run.json", save=tmp_path / "seen")
    )
    report = msgspec.json.decode((tmp_path / "run.json").read_bytes())
    assert report["images"] == 3 and report["people"] > 0.95
    assert report["precision"] > 0.9 and 0.7 < report["ods"] <= report["ois"]
    assert Image.open(tmp_path / "seen" / "0.png").size == (4 * SIZE[1], SIZE[0])
    maps = tmp_path / "maps"
    draw(Edges(drawings / "images" / "val", maps, weights=run / "edges.pt"))
    for index, named in enumerate(({"run": run}, {"weights": run})):  # the whole run draws as well
        draw(Edges(drawings / "images" / "val", tmp_path / f"{index}", **named))
        assert (tmp_path / f"{index}" / "0.png").read_bytes() == (maps / "0.png").read_bytes()
    with pytest.raises(HedgeError, match="one of them draws the edges; drop one"):
        draw(Edges(drawings / "images" / "val", tmp_path / "two", run=run, weights=run))
    evaluate(EvaluateEdges(maps, drawings, workers=1, json=tmp_path / "maps.json"))
    assert msgspec.json.decode((tmp_path / "maps.json").read_bytes()) == report
    (maps / "1.png").unlink()
    with pytest.raises(HedgeError, match=r"1\.png"):
        evaluate(EvaluateEdges(maps, drawings, workers=1))


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    tiny: Callable[..., HedConfig], tmp_path: Path
) -> None:
    main(tiny(tmp_path / "whole"))
    main(tiny(tmp_path / "parts", until=1))
    with pytest.raises(OutputError, match="exists; --resume"):
        main(tiny(tmp_path / "parts"))
    with pytest.raises(HedgeError, match=r"lr None → 0\.1"):
        main(tiny(tmp_path / "parts", resumed=tmp_path / "parts" / "tiny", lr=0.1))
    main(tiny(tmp_path / "parts", resumed=tmp_path / "parts" / "tiny"))
    whole, parts = (load_state(tmp_path / n / "tiny" / "edges.pt") for n in ("whole", "parts"))
    torch.testing.assert_close(whole, parts, rtol=0, atol=0)
    lines = (tmp_path / "parts" / "tiny" / "metrics.jsonl").read_bytes().splitlines()
    assert len(lines) == 2


def test_an_interrupted_epoch_tells_the_mean_loss_of_all_its_steps(
    tiny: Callable[..., HedConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Display, step: Step) -> None:
        if step.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    whole, parts = (tiny(tmp_path / name, epochs=1, batch=2) for name in ("whole", "parts"))
    main(whole)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Display, "step", interrupt)
        main(parts)
    main(replace(parts, resumed=parts.run))
    a, b = (
        msgspec.json.decode((config.run / "metrics.jsonl").read_bytes())["loss"]
        for config in (whole, parts)
    )
    assert a == b


def test_a_run_can_start_from_another(
    tiny: Callable[..., HedConfig], run: Path, tmp_path: Path
) -> None:
    config = tiny(tmp_path, start=str(run / "edges.pt"), epochs=1, lr=1e-4)
    main(config)
    first = msgspec.json.decode((config.run / "metrics.jsonl").read_bytes())["loss"]
    learned = (run / "metrics.jsonl").read_bytes().splitlines()
    assert first < 0.7 * msgspec.json.decode(learned[0])["loss"]


def test_the_vgg_net_starts_from_torchvisions(tmp_path: Path) -> None:
    """Same features: converting the first layer makes up for the other input."""
    torch.manual_seed(0)
    theirs = nn.ModuleDict({"features": tv.vgg.make_layers(tv.vgg.cfgs["D"])})
    features = theirs["features"]
    assert isinstance(features, nn.Sequential)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.bias, std=0.1)
    torch.save(theirs.state_dict(), tmp_path / "vgg16.pth")
    hed = HedVgg16()
    start(hed, str(tmp_path / "vgg16.pth"))
    image = torch.rand(1, 3, 40, 40)
    mean, deviation = (torch.tensor(v).reshape(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        expected = features[:9]((image - mean) / deviation)  # to the end of stage two
        found = hed.stages[1](hed.stages[0](hed.normalize(image)))
        # Along the rim they differ: zero padding is another colour to each.
        inner = (..., slice(4, -4), slice(4, -4))
        torch.testing.assert_close(found[inner], expected[inner], rtol=1e-3, atol=1e-4)
    last = features[28]
    assert isinstance(last, nn.Conv2d)
    torch.testing.assert_close(hed.state_dict()["stages.4.5.weight"], last.weight)
    state = theirs.state_dict()
    del state["features.5.bias"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(HedgeError, match=r"part\.pth: not weights of vgg16: features\.5\.bias"):
        start(hed, str(tmp_path / "part.pth"))
    with pytest.raises(HedgeError, match="only --net vgg16"):
        start(HedLite(), "imagenet")


def test_refusals(drawings: Path, tmp_path: Path) -> None:
    for wrong in ({"agreement": 0}, {"crop": 32}, {"ema": 1.0}, {"scale": (2, 1)}, {"lr": 0}):
        with pytest.raises(HedgeError):
            HedConfig(data=drawings, **wrong)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "edges.pt")
    with pytest.raises(HedgeError, match=r"edges\.pt: not weights of Hed"):
        evaluate(EvaluateEdges(tmp_path, drawings))
    with pytest.raises(HedgeError, match="no such run, weights or folder"):
        evaluate(EvaluateEdges(tmp_path / "none", drawings))
    with pytest.raises(HedgeError, match="--workers 0: give a number from 1"):
        EvaluateEdges(tmp_path, drawings, workers=0)


def test_one_annotator_has_no_others_to_agree_with(
    drawings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """People's score was 0 of such data, and too low where only some images are so."""
    (tmp_path / "images").symlink_to(drawings / "images")
    (tmp_path / "maps").mkdir()
    read = [pair.read() for pair in bsds.pairs(drawings, "val")]
    scores = list[float | None]()
    for alone in (0, 1, 3):
        for index, drawing in enumerate(read):
            people = list(drawing.boundaries[: 1 if index < alone else 2].astype(np.uint8))
            save_truth(tmp_path / "groundTruth" / "val" / f"{index}.mat", people)
            Image.fromarray(people[0] * 255).save(tmp_path / "maps" / f"{index}.png")
        report = tmp_path / f"{alone}.json"
        evaluate(EvaluateEdges(tmp_path / "maps", tmp_path, workers=1, json=report))
        scores.append(msgspec.json.decode(report.read_bytes())["people"])
    assert scores == [1, 1, None]
    assert " ".join(capsys.readouterr().out.split()).count("each against the others") == 2
