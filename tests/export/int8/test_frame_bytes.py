"""The first layers in INT8: a frame's bytes are their activations."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx_ir as ir
import onnxruntime
import openvino
import pytest
import torch

from export.fp16 import to_fp16
from export.int8 import frame_bytes, qdq
from export.int8.qdq import CPU, TENSORRT, Form
from export.int8.ranges import observe
from export.own.deploy import DeployGraph
from export.own.to_onnx import to_onnx
from train.config import ModelConfig
from train.models import DeepLab
from train.models.blocks import Normalize

SIZE, TWICE = (64, 96), (128, 192)


@pytest.fixture(scope="module", params=["whole", "halved", "two means"])
def forms(
    request: pytest.FixtureRequest, lite_graph: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a graph of two readers of the frame, backbone and HED, in FP32 and INT8."""
    folder = tmp_path_factory.mktemp("forms")
    size = TWICE if request.param == "halved" else SIZE
    if request.param == "whole":
        shutil.copy(lite_graph, folder / "fp32.onnx")
    else:
        torch.manual_seed(0)
        model = DeepLab(ModelConfig("mobilenet_v2", num_classes=3, se="sigmoid", hed="lite"))
        if request.param == "two means":  # as EfficientNet-Lite beside HED
            model.normalize = Normalize([0.5] * 3, [0.5] * 3)
        to_onnx(DeployGraph(model, SIZE, size), 1, folder / "fp32.onnx")
    to_fp16(folder / "fp32.onnx", folder / "fp16.onnx")
    found = observe(folder / "fp32.onnx", [photograph(size)])
    ranges = {name: histogram.range("minmax") for name, histogram in found.items()}
    qdq.quantize(folder / "fp32.onnx", folder / "cpu.onnx", ranges, CPU, ())
    qdq.quantize(folder / "fp16.onnx", folder / "tensorrt.onnx", ranges, TENSORRT, ())
    return folder


def photograph(size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8: noise as smooth as a photograph, of a mean that is not middle gray."""
    noise = np.random.default_rng(1).normal(size=(*size, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 6)
    return np.clip(90 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def readers(model: ir.Model) -> list[ir.Node]:
    """The convolutions of three planes."""
    return [node for node in model.graph if node.op_type == "Conv" and planes(node) == 3]


def planes(node: ir.Node) -> int:
    """Input channels of a convolution of one group, whose weights may be behind their codes."""
    weights = node.inputs[1]
    assert weights is not None
    if (back := weights.producer()) is not None:
        weights = back.inputs[0]
    assert weights is not None and weights.const_value is not None
    return int(weights.const_value.shape[1])


@pytest.mark.parametrize(("name", "form"), [("cpu", CPU), ("tensorrt", TENSORRT)])
def test_a_byte_is_its_own_code(forms: Path, name: str, form: Form) -> None:
    model = ir.load(forms / f"{name}.onnx")
    convolutions = readers(model)
    assert len(convolutions) == 2
    pairs = {node.inputs[0] for node in convolutions}
    assert len(pairs) == 1, "both read one pair"
    (value,) = pairs
    assert value is not None
    back = value.producer()
    assert back is not None and back.op_type == "DequantizeLinear"
    scale, zero = (number(back.inputs[i]) for i in (1, 2))
    assert scale == 1 and zero.dtype == np.int8
    less = back.inputs[0].producer().inputs[0].producer()  # type: ignore[union-attr]
    assert less is not None and less.op_type == "Sub"
    assert number(less.inputs[1]) == 128 + int(zero), "0..255 are the codes -128..127"
    assert (zero == 0) == (form is TENSORRT)


def number(value: ir.Value | None) -> np.ndarray:
    """A constant."""
    assert value is not None and value.const_value is not None
    return value.const_value.numpy()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_first_layers_answer_what_they_did_at_borders_too(forms: Path, engine: str) -> None:
    size = ir.load(forms / "fp32.onnx").graph.inputs[0].shape.numpy()[1:3]  # type: ignore[union-attr]
    frame = photograph((int(size[0]), int(size[1])))[None]
    plain = outputs(forms / "fp32.onnx", frame, "onnxruntime")
    coarse = outputs(forms / "cpu.onnx", frame, engine)
    assert len(plain) == len(coarse) == 2
    for expected, found in zip(plain, coarse, strict=True):
        error = np.abs(expected - found).mean((0, 1))
        typical = expected.std()
        assert error.mean() < 0.02 * typical
        assert error[0].mean() < 0.15 * typical and error[:, 0].mean() < 0.15 * typical


def outputs(path: Path, frame: np.ndarray, engine: str) -> list[np.ndarray]:
    """What the readers of the frame answer, straight from each convolution."""
    model = ir.load(path)
    values = [node.outputs[0] for node in readers(model)]
    model.graph.outputs.clear()
    for value in values:
        value.type = ir.TensorType(ir.DataType.FLOAT)
        model.graph.outputs.append(value)
    cut = ir.to_proto(model).SerializeToString()
    if engine == "onnxruntime":
        session = onnxruntime.InferenceSession(cut)
        return [np.asarray(found) for found in session.run(None, {"frame": frame})]
    compiled = openvino.Core().compile_model(openvino.Core().read_model(cut), "CPU")
    answer = compiled([frame])
    return [answer[port] for port in compiled.outputs]


def test_rounding_weights_together_loses_less_on_photographs() -> None:
    random = np.random.default_rng(0)
    kernel = random.normal(size=(16, 3, 6, 6)) * 20
    picture = torch.from_numpy(photograph((64, 96))).permute(2, 0, 1)[None].double() - 90
    right, near, together = (
        torch.nn.functional.conv2d(picture, torch.from_numpy(weights))
        for weights in (kernel, np.rint(kernel), frame_bytes.rounded(kernel))
    )
    assert (together - right).square().mean() < 0.2 * (near - right).square().mean()


def test_weights_are_rounded_by_less_than_one() -> None:
    kernel = np.random.default_rng(0).normal(size=(16, 3, 3, 3)) * 30
    whole = frame_bytes.rounded(kernel)
    assert np.array_equal(whole, np.rint(whole))
    assert np.abs(whole - kernel).max() < 1
