"""Bundles of a tiny graph whose labels one can tell by looking: each pixel's brightest channel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime import files
from runtime.backends import golden
from runtime.bundle.classes import ClassSet
from runtime.bundle.golden import Golden
from runtime.bundle.manifest import Manifest, Precision, TensorSpec
from runtime.bundle.measured import Measured
from tests.equipment.pictures import CLASSES, HEIGHT, WIDTH

SCALE = 32.0  # grey levels that make one unit of the scores of ``scores=True``


def make_bundle(
    folder: Path,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    batch: int = 1,
    class_set: ClassSet = CLASSES,
    measured: Measured | None = None,
    golden_frames: bool = False,
    scores: bool = False,
    network: tuple[int, int] | None = None,
    precision: Precision = "fp32",
) -> Path:
    """Write a bundle that labels each pixel with its brightest channel; (24, 32) unless said.

    scores: labels are of mean values of 4 × 4 pixels, which the graph tells as well (``SCALE``);
    network: of so many pixels, to which it resizes the frame.
    """
    folder.mkdir(parents=True)
    shape = (batch, *size, 3)
    seen = network or size
    graph = _brightest_mean(shape, seen) if scores else _brightest_channel(shape)
    onnx.save(graph, folder / "model.onnx")
    small = (batch, 3, *(side // 4 for side in seen))
    manifest = Manifest(
        name="brightest",
        variant="none",
        backbone="none",
        precision=precision,
        input=TensorSpec("frame", shape, "uint8", "NHWC", "BGR"),
        output=TensorSpec("labels", shape[:3], "uint8", "NHW"),
        classes=class_set,
        files={"model.onnx": files.sha256(folder / "model.onnx")},
        measured=measured or Measured(),
        logits=TensorSpec("logits", small, "float32", "NCHW") if scores else None,
    )
    if golden_frames:
        own = Golden("noise", 3, {"fp32": 0.99})
        pictures = np.random.default_rng(0).integers(256, size=(3, *size, 3), dtype=np.uint8)
        golden.save(folder, own, pictures, pictures.argmax(3).astype(np.uint8))
        manifest = replace(manifest, golden=own, files=_hashes(folder))
    manifest.save(folder)
    return folder


def resign(bundle: Path) -> None:
    """Make a bundle's manifest agree with its changed files again."""
    fields = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    fields["files"] |= _hashes(bundle)
    msgspec.convert(fields, Manifest).save(bundle)


def spoil_one_weight(graph: Path) -> None:
    """Change one bias of the last convolution, as if an engine's kernel of it were wrong.

    A bias, for what one of its weights does to labels depends on the training.
    """
    model = onnx.load(graph)
    made_by = {name: node for node in model.graph.node for name in node.output}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    convolution = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    name = convolution.input[2]
    while name not in tensors:  # behind a Cast, or a DequantizeLinear
        name = made_by[name].input[0]
    biases = numpy_helper.to_array(tensors[name]).copy()
    biases[0] = 2**30 if biases.dtype == np.int32 else 1000
    tensors[name].CopyFrom(numpy_helper.from_array(biases, name))
    onnx.save(model, graph)


def _hashes(bundle: Path) -> dict[str, str]:
    """Of models and pictures."""
    found = [*bundle.glob("*.onnx"), *bundle.glob("golden/*")]
    return {path.relative_to(bundle).as_posix(): files.sha256(path) for path in found}


def _brightest_mean(shape: tuple[int, ...], seen: tuple[int, int]) -> onnx.ModelProto:
    """uint8 (N, H, W, 3) BGR → labels as below, of ``logits``: means of 4 × 4 pixels by SCALE.

    seen: the (H, W) at which it looks at the frame.
    """
    batch, height, width, _ = shape
    linear = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    constants = [
        numpy_helper.from_array(np.float32(1 / SCALE), "scale"),
        numpy_helper.from_array(np.array([batch, 3, height, width], np.int64), "sizes"),
        numpy_helper.from_array(np.array([batch, 3, *seen], np.int64), "seen"),
    ]
    nodes = [
        helper.make_node("Cast", ["frame"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["values"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Resize", ["planes", "", "", "seen"], ["resized"], **linear),
        helper.make_node(
            "AveragePool", ["resized"], ["means"], kernel_shape=[4, 4], strides=[4, 4]
        ),
        helper.make_node("Mul", ["means", "scale"], ["logits"]),
        helper.make_node("Resize", ["logits", "", "", "sizes"], ["wide"], **linear),
        helper.make_node("ArgMax", ["wide"], ["index"], axis=1, keepdims=0),
        helper.make_node("Cast", ["index"], ["index32"], to=TensorProto.INT32),
        helper.make_node("Cast", ["index32"], ["labels"], to=TensorProto.UINT8),
    ]
    small = (batch, 3, seen[0] // 4, seen[1] // 4)
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, shape)
    labels = helper.make_tensor_value_info("labels", TensorProto.UINT8, shape[:3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, small)
    graph = helper.make_graph(nodes, "means", [frame], [labels, logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


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
