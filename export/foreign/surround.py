"""The graph from a camera's frame to labels, around a network that is given as ONNX.

As in ``export.own.fold``, arithmetic that constants can carry is in the weights: the first
convolutions read the frame's own bytes less a mean. And as in ``export.own.deploy`` the scores go
straight to the frame's size, so a network's own enlargement to it is left to the graph's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass, TopologicalSortPass

from export.foreign import ends
from export.foreign.opened import COLORS, Border, Size
from export.int8.codes import constant
from export.own.to_onnx import INPUT, LOGITS, OUTPUT
from runtime import cli

FLOAT, UINT8, INT32 = ir.DataType.FLOAT, ir.DataType.UINT8, ir.DataType.INT32
_DIM = 0.05  # between black and white; networks learn from 1 to 255
OWN = (INPUT, OUTPUT, LOGITS)  # names at the graph's border


@dataclass(frozen=True)
class Colors:
    """How images are prepared: mean, std of (red, green, blue) in 0..1; bgr: blue comes first."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False

    def planes(self) -> tuple[np.ndarray, np.ndarray]:
        """(3,) float64 each, in the network's order, of 0..255: what is subtracted, and factors."""
        order = slice(None, None, -1 if self.bgr else 1)
        mean, std = (np.array(values, np.float64)[order] for values in (self.mean, self.std))
        return 255 * mean, 1 / (255 * std)


def surround(
    model: ir.Model, border: Border, colors: Colors, frame_size: Size, batch: int
) -> Size | None:
    """Make ``model`` take frames and answer labels, in place; the size of the scores it answers.

    None where it answers labels alone: scores larger than the frame would only be read again.
    """
    graph = model.graph
    [image] = [value for value in graph.inputs if value.name == border.input]
    [answer] = [value for value in graph.outputs if value.name == border.output]
    for value in (*graph.inputs, *graph.initializers.values(), *_answers(graph)):
        if value.name in OWN:
            value.name = f"network.{value.name}"
    _prepare(graph, image, border, colors, frame_size, batch)
    scores = _answer(graph, answer, border, frame_size)
    TopologicalSortPass()(model)
    RemoveUnusedNodesPass()(model)
    ShapeInferencePass()(model)
    return scores


class _Chain:
    """Nodes one behind another, from a value on."""

    def __init__(self, graph: ir.Graph, value: ir.Value) -> None:
        self.graph, self.value, self.nodes = graph, value, list[ir.Node]()

    def add(
        self, operator: str, name: str, kind: ir.DataType, shape: Sequence[int],
        *more: ir.Value | None, **attributes: object,
    ) -> _Chain:  # fmt: skip
        """A node that reads the last value, whose answer is ``kind`` of ``shape``."""
        name = name if name in OWN else f"hedge.{name}"
        node = ir.node(operator, [self.value, *more], attributes, name=name)
        self.value = node.outputs[0]
        self.value.name, self.value.shape, self.value.type = (
            name,
            ir.Shape(shape),
            ir.TensorType(kind),
        )
        self.nodes.append(node)
        return self

    def constant(self, name: str, array: np.ndarray) -> ir.Value:
        """A constant of the graph."""
        return constant(self.graph, f"hedge.{name}", array)

    def resize(self, name: str, shape: Sequence[int]) -> _Chain:
        """A Resize to ``shape``, as ``torch.nn.functional.interpolate`` does it."""
        sizes = self.constant(f"{name}_sizes", np.array(shape, np.int64))
        way = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self.add("Resize", name, FLOAT, shape, None, None, sizes, **way)


def _answers(graph: ir.Graph) -> list[ir.Value]:
    return [value for node in graph for value in node.outputs]


def _prepare(
    graph: ir.Graph, image: ir.Value, border: Border, colors: Colors, frame_size: Size, batch: int
) -> None:
    """Put what comes before the network between a new input and the readers of ``image``."""
    frame = ir.Value(
        name=INPUT, shape=ir.Shape((batch, *frame_size, COLORS)), type=ir.TensorType(UINT8)
    )
    graph.inputs.clear()
    graph.inputs.append(frame)
    chain = _Chain(graph, frame)
    chain.add("Cast", "frame_float", FLOAT, (batch, *frame_size, COLORS), to=int(FLOAT))
    chain.add("Transpose", "frame_planes", FLOAT, (batch, COLORS, *frame_size), perm=(0, 3, 1, 2))
    mean, factor = colors.planes()
    image, mean, factor = _absorbed(image, mean, factor, border.planes)
    if (span := 255 * abs(factor).max()) < _DIM:
        cli.warn(
            f"the network normalises by itself what is normalised already: its first layer sees "
            f"values {span:.1g} apart at most; if it takes 0..255, say --std 0.00392157 thrice"
        )
    readers = [use.node for use in image.uses()]
    kernels = border.planes and all(_reads_as_kernel(node, image) for node in readers)
    halved = tuple(2 * side for side in border.size) == frame_size
    halves = kernels and halved and all(_is_plain(node) for node in readers)
    shape = (batch, COLORS, *(frame_size if halves else border.size))
    if shape[2:] != frame_size:
        chain.resize("image", shape)
    backwards = slice(None, None, 1 if colors.bgr else -1)  # frames are BGR
    if kernels:
        _centre(chain, mean[backwards], shape)
        for node in readers:
            _fold(graph, node, factor, backwards, halves)
    else:
        if not colors.bgr:
            order = chain.constant("rgb", np.array([2, 1, 0], np.int64))
            chain.add("Gather", "image_rgb", FLOAT, shape, order, axis=1)
        _centre(chain, mean, shape)
        scale = chain.constant("factor", _planes(factor))
        chain.add("Mul", "image_normal", FLOAT, shape, scale)
    if not border.planes:
        chain.add(
            "Transpose", "image_last", FLOAT, (batch, *border.size, COLORS), perm=(0, 2, 3, 1)
        )
    for use in list(image.uses()):
        use.node.replace_input_with(use.idx, chain.value)
    graph.extend(chain.nodes)


def _planes(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).reshape(1, COLORS, 1, 1)


def _centre(chain: _Chain, mean: np.ndarray, shape: Sequence[int]) -> None:
    chain.add("Sub", "image_centred", FLOAT, shape, chain.constant("mean", _planes(mean)))


def _absorbed(
    image: ir.Value, mean: np.ndarray, factor: np.ndarray, planes: bool
) -> tuple[ir.Value, np.ndarray, np.ndarray]:
    """The network's own normalisation as part of ours: what it reads behind it, mean and factor."""
    colors = (COLORS, 1, 1) if planes else (COLORS,)
    while len(image.uses()) == 1 and not image.is_graph_output():
        [use] = image.uses()
        node = use.node
        if node.op_type not in ("Add", "Sub", "Mul", "Div") or node.inputs[0] is not image:
            break
        known = node.inputs[1].const_value if node.inputs[1] is not None else None
        value = None if known is None else known.numpy().astype(np.float64)
        if value is None or (value.size != 1 and value.shape[-len(colors) :] != colors):
            break
        value = value.reshape(-1)
        mean = mean - value / factor if node.op_type == "Add" else mean
        mean = mean + value / factor if node.op_type == "Sub" else mean
        factor = factor * value if node.op_type == "Mul" else factor
        factor = factor / value if node.op_type == "Div" else factor
        image = node.outputs[0]
    return image, mean, factor


def _reads_as_kernel(node: ir.Node, image: ir.Value) -> bool:
    """Whether a convolution with constant weights, so that they can carry factors of its input."""
    if node.op_type != "Conv" or node.inputs[0] is not image or node.inputs[1] is None:
        return False
    weights = node.inputs[1].const_value
    return weights is not None and weights.shape[1] == COLORS and len(weights.shape) == 4


def _is_plain(node: ir.Node) -> bool:
    """Whether a convolution's kernel may be enlarged: taps side by side, padding in numbers."""
    dilations = node.attributes.get("dilations")
    padding = node.attributes.get("auto_pad")
    return (dilations is None or set(dilations.as_ints()) == {1}) and (
        padding is None or padding.as_string() in ("NOTSET", "VALID")
    )


def _fold(graph: ir.Graph, node: ir.Node, factor: np.ndarray, order: slice, halves: bool) -> None:
    """Put factors (3,), the order of colours, and a mean over 2×2 pixels into the weights."""
    weights = node.inputs[1]
    assert weights is not None and weights.const_value is not None
    kernel = weights.const_value.numpy().astype(np.float64) * factor.reshape(1, -1, 1, 1)
    kernel = kernel[:, order]
    if halves:
        kernel = kernel.repeat(2, 2).repeat(2, 3) / 4
        for name, default in (("strides", [1, 1]), ("pads", [0, 0, 0, 0])):
            given = node.attributes.get(name)
            sides = [2 * side for side in (given.as_ints() if given else default)]
            node.attributes[name] = ir.AttrInt64s(name, sides)
        node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", kernel.shape[2:])
    name = f"{node.name or node.outputs[0].name}_weight_of_bytes"
    node.replace_input_with(1, constant(graph, name, np.ascontiguousarray(kernel, np.float32)))


def _answer(graph: ir.Graph, value: ir.Value, border: Border, frame_size: Size) -> Size | None:
    """Put what comes after the network behind it; the size of the scores that are answered too."""
    graph.outputs.clear()
    whole = border.answer == frame_size  # else the network's own enlargement is part of what it is
    scores: ir.Value | None = value
    if border.labels:
        scores = ends.behind_labels(value) if whole else None
    if scores is None:
        _labels(graph, value, frame_size)
        return None
    if whole and not border.last:
        scores = ends.behind_enlargement(ends.behind_shares(scores))
    chain = _Chain(graph, scores)
    shape = _shape(scores)
    if border.last:
        shape = [shape[0], shape[3], *shape[1:3]]
        chain.add("Transpose", "scores_planes", FLOAT, shape, perm=(0, 3, 1, 2))
    if border.threshold is not None:
        shape = _beside(chain, shape, border.classes or 2, ends.threshold(scores))
    fits = all(own <= full for own, full in zip(shape[2:], frame_size, strict=True))
    if fits:
        chain.add("Identity", LOGITS, FLOAT, shape)
        graph.outputs.append(chain.value)
    if tuple(shape[2:]) != frame_size:
        chain.resize("scores", (*shape[:2], *frame_size))
    chain.add("ArgMax", "best", ir.DataType.INT64, (shape[0], *frame_size), axis=1, keepdims=0)
    _finish(chain, [shape[0], *frame_size], frame_size)
    return (shape[2], shape[3]) if fits else None


def _beside(chain: _Chain, shape: list[int], classes: int, threshold: float) -> list[int]:
    """Put the score of what is not the class before the class's own; the shape of both.

    Of logits it is 0; of probabilities the rest of 1, so that both are probabilities.
    """
    score, both = chain.value, [shape[0], classes, *shape[2:]]
    if threshold:
        whole = chain.constant("threshold_twice", np.array(2 * threshold, np.float32))
        chain.add("Neg", "score_negative", FLOAT, shape).add(
            "Add", "score_rest", FLOAT, shape, whole
        )
        chain.add("Concat", "scores_of_both", FLOAT, both, score, axis=1)
    else:
        before = chain.constant("threshold_place", np.array([0, 1, *[0] * 6], np.int64))
        level = chain.constant("threshold", np.array(0, np.float32))
        chain.add("Pad", "scores_of_both", FLOAT, both, before, level)
    return both


def _labels(graph: ir.Graph, value: ir.Value, frame_size: Size) -> None:
    """Labels of the network's own making, resized to the frame."""
    chain = _Chain(graph, value)
    batch, *sides = (side for number, side in enumerate(_shape(value)) if side != 1 or not number)
    shape = [batch, *sides]
    flat = chain.constant("labels_shape", np.array(shape, np.int64))
    chain.add("Reshape", "answer_labels", chain.value.dtype or FLOAT, shape, flat)
    _finish(chain, shape, frame_size)


def nearest(own: int, full: int) -> np.ndarray:
    """(full,) int64: which of ``own`` pixels lies at the middle of each, where those are resized.

    A Resize computes it with factors, and engines round those in ways of their own.
    """
    return (2 * np.arange(full) + 1) * own // (2 * full)


def _finish(chain: _Chain, shape: list[int], frame_size: Size) -> None:
    """Whole numbers (N, h, w) → uint8 of the frame's size, by way of int32 as TensorRT wants it;
    labels are the graph's first output."""
    chain.add("Cast", "labels_int32", INT32, shape, to=int(INT32))
    for axis, (own, full) in enumerate(zip(shape[1:], frame_size, strict=True), 1):
        if own != full:
            shape[axis] = full
            places = chain.constant(f"labels_places{axis}", nearest(own, full))
            chain.add("Gather", f"labels_axis{axis}", INT32, shape, places, axis=axis)
    chain.add("Cast", OUTPUT, UINT8, shape, to=int(UINT8))
    chain.graph.outputs.insert(0, chain.value)
    chain.graph.extend(chain.nodes)


def _shape(value: ir.Value) -> list[int]:
    assert value.shape is not None
    return [int(side) for side in value.shape.numpy()]
