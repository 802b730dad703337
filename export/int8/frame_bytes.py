"""The frame's bytes as the INT8 activations of the layers that read it.

``export.own.fold`` leaves a mean to subtract between the frame and its first convolution. In INT8 a
byte less 128 is its own code, of scale 1, and the mean becomes the code's zero point, which is
also what padding means; what is left of it goes into the bias. A frame that is not resized is
read without loss. OpenVINO makes one convolution of it all, which takes the decoder's bytes as
they lie; the same in uint8, of the same codes, it was seen to compute in floating point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from export.int8.codes import Scale, constant

ALIKE = 0.97  # correlation of neighbouring pixels, as photographs have it
ALIKE_COLOURS = 0.95  # and of two colours of one pixel
_MOVES = {"Cast", "Transpose", "Resize"}  # between the frame and the mean


def behind(value: ir.Value) -> ir.Value | None:
    """The frame's planes, 0..255, where ``value`` is those less a mean; else None."""
    node = value.producer()
    if node is None or node.op_type != "Sub":
        return None
    planes, mean = node.inputs
    assert planes is not None and mean is not None
    source: ir.Value | None = planes
    while source is not None and (moved := source.producer()) is not None:
        if moved.op_type not in _MOVES:
            return None
        source = moved.inputs[0]
    return planes if mean.const_value is not None else None


def read(
    graph: ir.Graph, convolutions: Sequence[ir.Node], symmetric: bool
) -> dict[ir.Value, Scale]:
    """Let those ``convolutions`` that read the frame read its bytes; the codes of their inputs.

    symmetric: the zero point is 0, so that padding is middle gray; otherwise it is the mean of
    all means that are subtracted. One for all readers: an edge network may have another mean than
    the backbone, and OpenVINO (2026.4) refuses EfficientNet-Lite beside it in two codes.
    """
    framed = [
        (node, centred, planes)
        for node in convolutions
        if (centred := node.inputs[0]) is not None and (planes := behind(centred)) is not None
    ]
    if not framed:
        return {}
    middle = np.mean([_mean(centred) for _, centred, _ in framed])
    zero = 128 if symmetric else round(float(middle))
    code = Scale(np.float64(1), np.int8(zero - 128))
    codes: dict[ir.Value, Scale] = {}
    known: dict[ir.Value, ir.Value] = {}
    for node, centred, planes in framed:
        if planes not in known:
            known[planes] = _coded(graph, node, planes, zero, code)
        value = known[planes]
        node.replace_input_with(0, value)
        _move_bias(graph, node, zero - _mean(centred))
        codes[value] = code
    return codes


def rounded(kernel: np.ndarray) -> np.ndarray:
    """(O, 3, h, w) weights in steps of their code → the same as whole numbers, up or down.

    Neighbouring pixels are nearly equal, and so are the three colours: what one weight loses the
    next ones make up for, as far as pixels go together (OBQ, Frantar et al., 2022).
    """
    size = kernel.shape[1:]
    plane, row, column = (axis.reshape(-1) for axis in np.indices(size))
    far = np.hypot(np.subtract.outer(row, row), np.subtract.outer(column, column))
    alike = ALIKE**far * np.where(np.equal.outer(plane, plane), 1, ALIKE_COLOURS)
    upper = np.linalg.cholesky(np.linalg.inv(alike + 1e-3 * np.eye(len(plane)))).T
    left = kernel.reshape(len(kernel), -1).copy()
    low, high = np.floor(left), np.ceil(left)
    whole = np.empty_like(left)
    for tap in range(left.shape[1]):
        whole[:, tap] = np.clip(np.rint(left[:, tap]), low[:, tap], high[:, tap])
        error = (left[:, tap] - whole[:, tap]) / upper[tap, tap]
        left[:, tap:] -= np.outer(error, upper[tap, tap:])
    return whole.reshape(kernel.shape)


def _mean(centred: ir.Value) -> np.ndarray:
    """(3,) float64: what is subtracted, by plane."""
    node = centred.producer()
    assert node is not None and node.inputs[1] is not None
    assert node.inputs[1].const_value is not None
    return node.inputs[1].const_value.numpy().astype(np.float64).reshape(-1)


def _coded(graph: ir.Graph, before: ir.Node, planes: ir.Value, zero: int, code: Scale) -> ir.Value:
    """``planes`` less ``zero``, through a pair of ``code``."""
    assert planes.dtype is not None
    real, name = planes.dtype.numpy(), f"frame_less_{zero}"
    offset = constant(graph, f"{name}_offset", np.full((), zero, real))
    parts = [
        constant(graph, f"{name}_scale", code.scale.astype(real)),
        constant(graph, f"{name}_zero_point", np.asarray(code.zero_point)),
    ]
    less = ir.node("Sub", [planes, offset], name=name)
    quantize = ir.node("QuantizeLinear", [less.outputs[0], *parts], name=f"{name}_quantize")
    back = ir.node("DequantizeLinear", [quantize.outputs[0], *parts], name=f"{name}_dequantize")
    for node, ending in ((less, ""), (quantize, "_quantized"), (back, "_dequantized")):
        node.outputs[0].name = name + ending
    graph.insert_before(before, [less, quantize, back])
    return back.outputs[0]


def _move_bias(graph: ir.Graph, node: ir.Node, offset: np.ndarray) -> None:
    """Add to the bias what ``offset`` (3,), taken from every pixel, takes from the output."""
    weights = node.inputs[1]
    assert weights is not None and weights.const_value is not None
    stored = weights.const_value.numpy()
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    given = bias.const_value.numpy() if bias is not None and bias.const_value is not None else 0
    kernel = stored.astype(np.float64)
    moved = given + (kernel * offset.reshape(1, -1, 1, 1)).sum((1, 2, 3))
    node.resize_inputs(3)
    node.replace_input_with(2, constant(graph, f"{node.name}_bias", moved.astype(stored.dtype)))
