"""Networks as others hand them on: small ONNX files, and a module of the same arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.config import Export
from export.foreign.network import Foreign, of_file

SIDES = (32, 48)
CLASSES = 4
WIDTH = 6


def write_network(
    path: Path,
    sides: Sequence[int | str] = SIDES,
    channels: int = 3,
    batch: int | str = 1,
    ends: Sequence[str] = (),
    begins: Sequence[str] = (),
    last: bool = False,
    classes: int = CLASSES,
    opset: int = 18,
    more: Sequence[onnx.NodeProto] = (),
    outputs: Sequence[str] = (),
) -> Path:
    """Write a network of two convolutions that scores ``classes`` classes at half of ``sides``.

    ends: of "sigmoid", "enlarged" (by 2, bilinear), "softmax", "second" (class alone), "shares"
    (sigmoid), "bytes" (of those, 0..255), "clipped" (to 0..1), "mask" (bool), "labels" (uint8),
    "floats" (of labels) and "repeated" (those, by 2), in this order; begins: of "normal", which
    takes bytes, "unfolded" (rows and columns in pairs and back, by nodes without names) and
    "padded"; last: NHWC at both borders; more: nodes behind all that, outputs: further ones.
    """
    random = np.random.default_rng(0)
    shape = (batch, *sides, channels) if last else (batch, channels, *sides)
    last_weights = random.normal(size=(classes, WIDTH, 1, 1))
    constants = {
        "first.weight": random.normal(size=(WIDTH, channels, 3, 3)) / 3,
        "first.bias": random.normal(size=WIDTH) / 3,
        "second.weight": last_weights - last_weights.mean(1, keepdims=True),  # to both sides of 0
        "second.bias": random.normal(size=classes) / 9,
        "shift": np.reshape([120.0, 110.0, 100.0], (1, 3, 1, 1)),
        "spread": np.array(60.0),
        "half": np.array(0.5),
        "scales": np.array([1, 1, 2, 2]),
    }
    nodes: list[onnx.NodeProto] = []
    value = "image"

    def then(operator: str, *others: str, **attributes: object) -> None:
        nonlocal value
        name = f"{operator.lower()}_{len(nodes)}"
        node = helper.make_node(operator, [value, *others], [name], name=name, **attributes)
        nodes.append(node)
        value = name

    if last:
        then("Transpose", perm=(0, 3, 1, 2))
    if "normal" in begins:
        then("Sub", "shift")
        then("Div", "spread")
    if "unfolded" in begins:
        for axis, side in ((2, sides[0]), (3, sides[1])):
            constants[f"pairs{axis}"] = np.arange(int(side), dtype=np.int64).reshape(-1, 2)
            constants[f"sides{axis}"] = np.array([1, channels, *sides], np.int64)
            then("Gather", f"pairs{axis}", axis=axis)
            nodes[-1].name = ""
            then("Reshape", f"sides{axis}")
    if "padded" in begins:
        constants["margins"] = np.array([0, 0, 1, 1, 0, 0, 1, 1])
        then("Pad", "margins")
    pads = [0] * 4 if "padded" in begins else [1] * 4
    then("Conv", "first.weight", "first.bias", pads=pads, strides=[2, 2], kernel_shape=[3, 3])
    then("Relu")
    then("Conv", "second.weight", "second.bias", kernel_shape=[1, 1])
    if "sigmoid" in ends:
        then("Sigmoid")
    if "enlarged" in ends:
        then("Resize", *([""] if opset > 10 else []), "scales", mode="linear")
    if "softmax" in ends:
        then("Softmax", axis=1)
    if "second" in ends:
        constants["one"] = np.array([1])
        then("Gather", "one", axis=1)
    if "shares" in ends:
        then("Sigmoid")
    if "bytes" in ends:
        constants["white"] = np.array(255.0)
        then("Mul", "white")
    if "clipped" in ends:
        constants |= {"black": np.array(0.0), "full": np.array(1.0)}
        then("Clip", "black", "full")
    if "mask" in ends:
        then("Greater", "half")
    if "labels" in ends:
        then("ArgMax", axis=1, keepdims=int("repeated" in ends))
        then("Cast", to=TensorProto.UINT8)
    if "floats" in ends:
        then("Cast", to=TensorProto.FLOAT)
    if "repeated" in ends:
        ways = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        then("Resize", "", "scales", mode="nearest", **ways)
    if last:
        then("Transpose", perm=(0, 2, 3, 1))
    nodes[-1].output[0] = "logits"  # a name that our own graphs have
    kinds = {"labels": TensorProto.UINT8, "mask": TensorProto.BOOL}
    kind = kinds.get(ends[-1], TensorProto.FLOAT) if ends else TensorProto.FLOAT
    axes = 3 if "labels" in ends and "repeated" not in ends else 4
    graph = helper.make_graph(
        [*nodes, *more],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("logits", kind, [None] * axes),
            *(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4)
                for name in outputs
            ),
        ],
        [numpy_helper.from_array(_typed(array), name) for name, array in constants.items()],
    )
    domains = {node.domain for node in more} - {""}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


def opened(config: Export) -> Foreign:
    """The network of an ONNX file, as ``export`` opens it."""
    assert config.run is not None
    return Foreign(of_file(config.run, config.output), config)


def _typed(array: np.ndarray) -> np.ndarray:
    """Indices, lists of sides and of margins stay whole numbers; scales of a Resize are float32."""
    whole = array.dtype.kind == "i" and array.max() != 2
    return array.astype(np.int64 if whole else np.float32)
