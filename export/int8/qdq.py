"""FP32 or FP16 graph → the same graph with explicit INT8 Q/DQ, layer by layer.

Precision is written into the ONNX file, not asked of a builder: QuantizeLinear / DequantizeLinear
pairs, symmetric, per-channel weights, all from one table of ranges (Wu et al., arXiv 2004.09602).
Pairs stand where engines can fuse: on the inputs of convolutions, of products with weights and of
residual additions and behind the activation, never between convolution and activation; maximum
pooling, resizing and concatenation pass them on under one scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.fp16 import QUANTIZED
from export.int8 import frame_bytes
from export.int8.codes import Scale, constant
from export.int8.pairs import Kept, Pairs, put_pair
from runtime.errors import HedgeError
from runtime.outputs.checks import writing

Ranges = Mapping[str, tuple[float, float]]  # tensor → lowest and highest value worth a code

WEIGHED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Add: residuals; Mul and GlobalAveragePool: Squeeze-Excitation, which in floating point between
# INT8 layers costs ONNX Runtime 10 % of a ResNet-50 frame, and so 3 %.
INT8 = {*WEIGHED, "Add", "Mul", "GlobalAveragePool"}
TRANSPARENT = {"Concat", "MaxPool", "Resize"}  # hand on what they get: one scale on both sides
GATES = {"Sigmoid", "HardSigmoid"}
_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0}  # a Gemm that is a product and a sum
PARAMETRIC = {*WEIGHED, "Resize"}  # only their first input is an activation
LARGEST_BIAS = 2.0**30  # steps; the sum that it is added to needs the rest of an int32
_REAL = {ir.DataType.FLOAT, ir.DataType.FLOAT16}
TINIEST = 2.0**-24  # scale of an all-zero tensor: the smallest that FP16 can hold
LARGEST = 65504.0  # scale of what masks by -1e9: the largest


@dataclass(frozen=True)
class Form:
    """How a family of engines wants the same quantised network to be written.

    unsigned: activations are uint8, with zero point 0 where they are never negative and 128
    elsewhere, and biases int32; otherwise int8 with zero point 0, and biases as they are.
    depthwise: whether depthwise convolutions are INT8.
    pairs: whether the codes of any two weights of a filter, and not each alone, stay within ±127.
    """

    unsigned: bool
    depthwise: bool
    pairs: bool


# TensorRT-RTX 1.7 turns an INT8 depthwise kernel into a dense one: 37 MB of engine instead of 16
# for the MobileNetV2 dlse_hed, and a reason why INT8 so often is slower than FP16 there.
TENSORRT = Form(unsigned=False, depthwise=False, pairs=False)
# A CPU without VNNI adds two products in 16 bits that saturate, silently and in both engines alike:
# filters of positive weights came out 14 % too small. Codes of two that add up to 128 always fit.
CPU = Form(unsigned=True, depthwise=True, pairs=True)


def layers(model: ir.Model) -> list[str]:
    """Names of the nodes that can run in INT8, in graph order.

    These are the INT8 operators over feature maps and rows of tokens; what works on 1×1 maps (the
    gates of Squeeze-Excitation, image pooling) has nothing to gain.
    """
    return [str(node.name) for node in model.graph if _is_layer(node)]


def tensors(model: ir.Model) -> list[str]:
    """Names of the activations that ``quantize`` may need a range for, in graph order."""
    wanted = _groups(model, kept=())
    return [str(value.name) for node in model.graph for value in node.outputs if value in wanted]


def quantize(source: Path, target: Path, ranges: Ranges, form: Form, kept: Kept) -> None:
    """Write ``source`` with Q/DQ pairs to ``target``; layers named in ``kept`` stay as they are.

    Raises HedgeError where ``ranges`` lacks a tensor: it was taken from another model.
    """
    model = ir.load(source)
    if not form.depthwise:
        kept = {*kept, *(str(node.name) for node in model.graph if _is_depthwise(node))}
    codes: dict[ir.Value, Scale] = {}
    for value, span in _spans(_groups(model, kept), ranges).items():
        codes[value] = _activation_scale(span, form)
    convolutions = [n for n in model.graph if n.op_type in WEIGHED and _is_int8(n, kept)]
    of_frame = frame_bytes.read(model.graph, convolutions, symmetric=not form.unsigned)
    for node in convolutions:
        _quantize_weights(model.graph, node, codes | of_frame, form, node.inputs[0] in of_frame)
    pairs: Pairs = {}
    for value, code in codes.items():
        put_pair(model.graph, value, code, kept, pairs)
    model.graph.opset_imports[""] = max(QUANTIZED, model.graph.opset_imports[""])
    RemoveUnusedNodesPass()(model)  # the weights that are integers now
    with writing(target):
        ir.save(model, target)
    onnx.checker.check_model(str(target), full_check=True)


def _is_layer(node: ir.Node) -> bool:
    if node.op_type not in INT8 or _is_gated(node):
        return False
    inputs = _activations(node)
    if any(value.const_value is not None or value.shape is None for value in inputs):
        return False
    if any(value.dtype not in _REAL for value in inputs):  # labels that are added, places of them
        return False
    if node.op_type in WEIGHED and output_axis(node) is None:
        return False
    if node.op_type in ("Gemm", "MatMul"):  # one vector alone has nothing to gain
        return all(prod(value.shape.numpy()[:-1]) > 1 for value in inputs if value.shape)
    maps = all(value.shape is not None and len(value.shape) == 4 for value in inputs)
    return maps and not all(map(_is_pooled, inputs))


def _is_gated(node: ir.Node) -> bool:
    """Whether an activation in two nodes, x · σ(x), behind which alone a pair may stand."""
    gates = [value.producer() for value in node.inputs if value is not None]
    sources = [gate.inputs[0] for gate in gates if gate is not None and gate.op_type in GATES]
    return node.op_type == "Mul" and any(source in node.inputs for source in sources)


def output_axis(node: ir.Node) -> int | None:
    """The axis of constant weights that has an entry for each output channel; None without one."""
    weights, given = node.inputs[1], {name: a.value for name, a in node.attributes.items()}
    if weights is None or weights.const_value is None:
        return None
    match node.op_type:
        case "Conv":
            return 0
        case "ConvTranspose":  # in groups no axis tells its filters
            return 1 if given.get("group", 1) == 1 else None
        case "Gemm":
            plain = all(given.get(name, value) == value for name, value in _PLAIN.items())
            return (0 if given.get("transB") else 1) if plain else None
    return 1 if len(weights.const_value.shape) == 2 else None


def _is_int8(node: ir.Node, kept: Kept) -> bool:
    return _is_layer(node) and node.name not in kept


def _is_depthwise(node: ir.Node) -> bool:
    group = node.attributes.get("group")
    return node.op_type == "Conv" and group is not None and group.as_int() > 1


def _activations(node: ir.Node) -> list[ir.Value]:
    """What ``node`` reads beside its parameters."""
    inputs = node.inputs[:1] if node.op_type in PARAMETRIC else node.inputs
    return [value for value in inputs if value is not None and value.name]


def _is_pooled(value: ir.Value) -> bool:
    """Whether ``value`` is a vector of channels (1×1 map) rather than a feature map."""
    return value.shape is not None and tuple(value.shape.numpy()[2:]) == (1, 1)


def _groups(model: ir.Model, kept: Kept) -> dict[ir.Value, ir.Value]:
    """Each activation that gets a pair → the one that stands for all that share its scale."""
    groups: dict[ir.Value, ir.Value] = {}
    for node in model.graph:
        if _is_int8(node, kept):
            pooled = node.outputs if node.op_type == "GlobalAveragePool" else ()
            inputs = [v for v in _activations(node) if frame_bytes.behind(v) is None]
            for value in (*inputs, *pooled):
                _join(groups, value, value)
    return groups


def _join(groups: dict[ir.Value, ir.Value], value: ir.Value, group: ir.Value) -> None:
    """Put ``value`` into the group that ``group`` stands for, and what hands it on too."""
    known = groups.get(value)
    target = groups.get(group, group)
    if known is not None and known is not target:
        for member in [m for m, g in groups.items() if g is known]:
            groups[member] = target
    groups[value] = target
    producer = value.producer()
    if known is None and producer is not None and producer.op_type in TRANSPARENT:
        for source in _activations(producer):
            if source.const_value is None:  # as the places are that CoordConv joins to its maps
                _join(groups, source, value)


def _spans(
    groups: Mapping[ir.Value, ir.Value], ranges: Ranges
) -> dict[ir.Value, tuple[float, float]]:
    """The range of each activation: the widest within its group."""
    widest: dict[ir.Value, tuple[float, float]] = {}
    for value, group in groups.items():
        if (known := ranges.get(str(value.name))) is None:
            raise HedgeError(f"no range for tensor {value.name!r}: the scales of another model")
        low, high = known
        seen = widest.get(group, (low, high))
        widest[group] = (min(low, seen[0]), max(high, seen[1]))
    return {value: widest[group] for value, group in groups.items()}


def _activation_scale(span: tuple[float, float], form: Form) -> Scale:
    low, high = span
    if form.unsigned and low >= 0:
        return Scale(_storable(np.float64(high) / 255), np.uint8(0))
    scale = _storable(np.maximum(-low, high) / np.float64(127))
    return Scale(scale, np.uint8(128) if form.unsigned else np.int8(0))


def _storable(scale: np.ndarray) -> np.ndarray:
    """``scale`` as FP16 keeps it, in float64: activations have the same steps in every form."""
    return np.clip(scale, TINIEST, LARGEST).astype(np.float16).astype(np.float64)


def _quantize_weights(
    graph: ir.Graph, node: ir.Node, codes: Mapping[ir.Value, Scale], form: Form, reads_bytes: bool
) -> None:
    """Weights become int8, one scale per output channel; biases int32 where the form says so."""
    weights = node.inputs[1]
    assert weights is not None and weights.const_value is not None and weights.dtype is not None
    axis = output_axis(node)
    assert axis is not None
    values = np.moveaxis(weights.const_value.numpy().astype(np.float64), axis, 0)
    # Depthwise kernels were seen not to saturate: they do not add neighbouring channels.
    pairs = form.pairs and not _is_depthwise(node)
    reach = _largest_pair(values) if pairs else _largest(values)
    # Rounded together, each weight of a pair may end nearly a step above its own.
    scale = reach / (125 if pairs and reads_bytes else 127)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    known = bias.const_value if bias is not None and form.unsigned else None
    biases = known.numpy().astype(np.float64) if known and len(known.shape) == 1 else None
    if biases is not None:  # that of a filter that is next to empty has more steps than int32
        assert node.inputs[0] is not None
        step = codes[node.inputs[0]].scale
        scale = np.maximum(scale, np.abs(biases) / (step * LARGEST_BIAS))
    scale = _storable(scale)
    steps = values / scale.reshape(-1, *[1] * (values.ndim - 1))
    whole = frame_bytes.rounded(steps) if reads_bytes else np.rint(steps)
    stored = np.clip(whole, -127, 127).astype(np.int8)
    zeros = np.zeros(len(scale), np.int8)
    stored = np.ascontiguousarray(np.moveaxis(stored, 0, axis))
    name = f"{node.name}.weight"
    value = _dequantized(graph, node, name, stored, scale, zeros, weights.dtype, axis)
    node.replace_input_with(1, value)
    if biases is not None:
        steps = step * scale
        stored = np.rint(biases / steps).astype(np.int32)
        name = f"{node.name}.bias"
        value = _dequantized(graph, node, name, stored, steps, None, weights.dtype)
        node.replace_input_with(2, value)


def _largest(weights: np.ndarray) -> np.ndarray:
    """(C, …) → (C,): each filter's largest magnitude."""
    return np.abs(weights).reshape(len(weights), -1).max(axis=1)


def _largest_pair(weights: np.ndarray) -> np.ndarray:
    """(C, …) → (C,): the largest magnitude that two weights of a filter add up to."""
    ascending = np.sort(weights.reshape(len(weights), -1), axis=1)
    negative, positive = ascending[:, :2].clip(max=0), ascending[:, -2:].clip(min=0)
    return np.maximum(-negative.sum(axis=1), positive.sum(axis=1))


def _dequantized(
    graph: ir.Graph,
    before: ir.Node,
    name: str,
    stored: np.ndarray,
    scale: np.ndarray,
    zeros: np.ndarray | None,
    dtype: ir.DataType,
    axis: int = 0,
) -> ir.Value:
    """A constant kept as integers, with one scale per entry of an axis."""
    parts = [constant(graph, f"{name}_quantized", stored)]
    parts.append(constant(graph, f"{name}_scale", scale.astype(dtype.numpy())))
    if zeros is not None:
        parts.append(constant(graph, f"{name}_zero_point", zeros))
    node = ir.node("DequantizeLinear", parts, {"axis": axis}, name=f"{name}_dequantize")
    node.outputs[0].name = f"{name}_dequantized"
    graph.insert_before(before, node)
    return node.outputs[0]
