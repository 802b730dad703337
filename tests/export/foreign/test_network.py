"""A network that was trained elsewhere gets all that one of ours gets."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import hedge_seg
from export.config import Export
from export.foreign.module import Chosen
from runtime.backends.registry import installed_backends
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError
from runtime.segment import Segmenter
from tests.export.foreign.networks import SIDES, opened, write_network

SIZE = (48, 64)


class Brightest(nn.Module):
    """The mean of 2×2 pixels in each colour, as scores; beside them, what nobody asked for.

    The pixels come as patches, behind a convolution without bias: see ``_flatten_indices``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.colors = nn.Conv2d(3, 3, 1)
        self.gains = nn.Conv2d(3, 3, 1, bias=False)
        self.scores = nn.Conv2d(12, 3, 1)
        gains = torch.tensor([1.0, 2.0, 4.0])  # for INT8 scales by channel
        with torch.no_grad():
            self.colors.weight.copy_(torch.eye(3)[..., None, None])
            self.gains.weight.copy_(torch.diag(gains)[..., None, None])
            means = torch.diag(2 / gains).repeat_interleave(4, 1)
            self.scores.weight.copy_(means[..., None, None])

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, 3, H, W) → scores at half of that, twice."""
        count, _, height, width = image.shape
        pixels = self.gains(self.colors(image).relu())
        patches = nn.functional.unfold(pixels, 2, stride=2)
        scores = self.scores(patches.reshape(count, -1, height // 2, width // 2))
        return {"out": scores, "aux": -scores}


def images(folder: Path, count: int = 6) -> Path:
    """Pictures of eight areas, each of which one colour rules."""
    import cv2

    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        rules = random.integers(3, size=(2, 4))
        small = random.integers(60, size=(2, 4, 3)) + 150 * np.eye(3, dtype=int)[rules]
        large = small.repeat(SIZE[0] // 2, 0).repeat(SIZE[1] // 4, 1)
        cv2.imwrite(str(folder / f"{number}.png"), large.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bundles of a module in all precisions, calibrated and verified on images alone."""
    root = tmp_path_factory.mktemp("foreign")
    torch.manual_seed(0)  # biases, which decide labels where they are large
    config = Export(
        classes=("red,green,blue",), size=SIZE, output="out", data=images(root / "images"),
        fp32=True, fp16=True, int8=True, calibration_method="minmax", out=root / "bundles",
    )  # fmt: skip
    found = hedge_seg.export(Brightest(), config)
    return {bundle.manifest.precision: bundle.path for bundle in found}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_module_is_answered_alike_in_every_engine(
    precision: str, published: dict[str, Path]
) -> None:
    manifest = Manifest.load(published[precision])
    assert manifest.name == f"brightest-{precision}" and manifest.backbone == "Brightest"
    assert manifest.logits is not None and manifest.logits.shape == (1, 3, 24, 32)
    measured = manifest.measured
    assert measured.data == "images" and measured.images == 6 and measured.reference == "PyTorch"
    assert (manifest.calibration is not None) == (precision == "int8")
    frame = np.zeros((*SIZE, 3), np.uint8)
    frame[:, :32, 0], frame[:, 32:, 2] = 200, 200  # blue, then red
    for backend in installed_backends():
        assert (measured.agreement[backend] or 0) > 0.995
        with Segmenter(published[precision], backend) as segmenter:
            labels = segmenter(frame)
        assert (labels[:, :30] == 2).all() and (labels[:, 34:] == 0).all()


def test_a_file_is_held_against_onnx_runtime(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx", sides=SIZE, ends=["enlarged"])
    config = Export(fp16=True, data=images(tmp_path / "images", 3), out=tmp_path)
    [bundle] = hedge_seg.export(path, config)
    assert bundle.manifest.measured.reference.startswith("ONNX Runtime ")
    assert bundle.manifest.golden is not None
    assert bundle.manifest.golden.bounds.keys() == {"fp32", "fp16", "bf16"}


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({}, r"Brightest: takes images of any size; say which: size="),
        ({"size": SIZE}, r"Brightest: answers out, aux; say which are the scores: output"),
        ({"size": SIZE, "output": "top"}, r"Brightest: answers out, aux; say which"),
    ],
)
def test_what_a_module_does_not_tell_is_asked_for(asked: dict, problem: str) -> None:
    with pytest.raises(HedgeError, match=problem):
        hedge_seg.export(Brightest(), Export(**asked))


class Halved(Brightest):
    """In FP16, as it was trained; its answer is a dataclass, as of several libraries."""

    @dataclass
    class Answer:
        """What a library answers; the loss of no labels is none."""

        logits: torch.Tensor
        loss: None = None

    def __init__(self) -> None:
        super().__init__()
        self.half()

    def forward(self, image: torch.Tensor) -> Halved.Answer:  # type: ignore[override]
        """Images of the weights' type → scores."""
        return self.Answer(self.colors(image))


class Told(Brightest):
    """Answers words."""

    def forward(self, image: torch.Tensor) -> list[str]:  # type: ignore[override]
        """No scores at all."""
        return ["road"]


def test_a_module_of_fp16_is_run_in_fp32() -> None:
    module = Halved()
    scores = Chosen(module, None)(torch.zeros(1, 3, *SIZE))
    assert scores.dtype == torch.float32 and scores.shape == (1, 3, *SIZE)
    assert module.colors.weight.dtype == torch.float16 and module.training


def test_what_is_no_module_of_scores_is_refused() -> None:
    config, locked = Export(size=SIZE), Brightest()
    locked.lock = threading.Lock()  # which nobody can copy
    with pytest.raises(HedgeError, match=r"Brightest: not to be copied and set to eval.*lock"):
        hedge_seg.export(locked, config)
    script = torch.jit.script(nn.Conv2d(3, 2, 1))
    with pytest.raises(HedgeError, match=r"ScriptModule: is TorchScript, .* dynamo=False"):
        hedge_seg.export(script, config)
    with pytest.raises(HedgeError, match=r"Told: answers a list that holds no tensor"):
        hedge_seg.export(Told(), config)


def test_what_is_no_network_is_not_the_newest_run() -> None:
    with pytest.raises(TypeError, match=r"or a torch\.nn\.Module, got OrderedDict"):
        hedge_seg.export(Brightest().state_dict(), Export(size=SIZE))  # type: ignore[arg-type]


def test_a_run_of_ours_knows_its_own(tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match=r"--mean is for an ONNX file"):
        hedge_seg.export(Export(tmp_path, mean=(0.5, 0.5, 0.5)))


def test_a_file_that_fails_as_it_runs_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And the library's log shows no name of its nodes, with control codes as they are."""
    fourth = numpy_helper.from_array(np.array([3]))
    more = [
        helper.make_node("Constant", [], ["fourth"], value=fourth),
        helper.make_node("Gather", ["image", "fourth"], ["alpha"], name="\x1b[31mred", axis=1),
    ]
    path = write_network(tmp_path / "net.onnx", more=more, outputs=["alpha"])
    original = opened(Export(run=path, output="logits")).deployed(SIDES, SIDES)
    with pytest.raises(HedgeError, match=r"net\.onnx: ONNX Runtime fails to run it: .*Gather"):
        original(torch.zeros(1, *SIDES, 3, dtype=torch.uint8))
    assert "\x1b" not in capfd.readouterr().err
