"""Bundles of a tiny graph whose labels one can tell by looking: each pixel's brightest channel."""

from __future__ import annotations

from pathlib import Path

import msgspec
import onnx
from onnx import TensorProto, helper

from runtime import files
from runtime.bundle.classes import ClassSet
from runtime.bundle.manifest import Manifest, TensorSpec
from runtime.bundle.measured import Measured
from tests.equipment.pictures import CLASSES, HEIGHT, WIDTH


def make_bundle(
    folder: Path,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    batch: int = 1,
    class_set: ClassSet = CLASSES,
    measured: Measured | None = None,
) -> Path:
    """Write a bundle that labels each pixel with its brightest channel; (24, 32) unless said."""
    folder.mkdir(parents=True)
    shape = (batch, *size, 3)
    onnx.save(_brightest_channel(shape), folder / "model.onnx")
    Manifest(
        name="brightest",
        variant="none",
        backbone="none",
        precision="fp32",
        input=TensorSpec("frame", shape, "uint8", "NHWC", "BGR"),
        output=TensorSpec("labels", shape[:3], "uint8", "NHW"),
        classes=class_set,
        files={"model.onnx": files.sha256(folder / "model.onnx")},
        measured=measured or Measured(),
    ).save(folder)
    return folder


def resign(bundle: Path) -> None:
    """Make a bundle's manifest agree with its changed model again."""
    fields = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    fields["files"]["model.onnx"] = files.sha256(bundle / "model.onnx")
    msgspec.convert(fields, Manifest).save(bundle)


def _brightest_channel(shape: tuple[int, int, int, int]) -> onnx.ModelProto:
    """uint8 (N, H, W, 3) BGR → uint8 (N, H, W): 0, 1 or 2, whichever of B, G, R is brightest."""
    nodes = [
        helper.make_node("Cast", ["frame"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["values"], ["index"], axis=3, keepdims=0),
        helper.make_node("Cast", ["index"], ["index32"], to=TensorProto.INT32),
        helper.make_node("Cast", ["index32"], ["labels"], to=TensorProto.UINT8),
    ]
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, shape)
    labels = helper.make_tensor_value_info("labels", TensorProto.UINT8, shape[:3])
    graph = helper.make_graph(nodes, "brightest_channel", [frame], [labels])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model
