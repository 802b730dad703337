"""What a network's answer is made of, where its last steps are those that every deployment has."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

_LINEAR = {"half_pixel", "pytorch_half_pixel"}  # the same where there is more than one pixel
_RENAMED = {"Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape"}  # labels, and their order, stay
_BOUNDS = {"HardSigmoid": (0, 1), "Sigmoid": (0, 1), "Softmax": (0, 1), "Tanh": (-1, 1)}
_ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
_MONOTONE = {"Softmax", "LogSoftmax", "Sigmoid"}  # the largest score stays the largest
_PLACED = _RENAMED | {"Resize", "Transpose"}  # labels stay labels, a share of one a share of one
_KEPT = _PLACED | {"Gather", "Pad", "Round", "Slice", "Split"}  # values stay within their bounds
_SOFTMAX = {"Softmax", "LogSoftmax"}
_CLASSES = (1, -3)  # the axis, of (N, C, H, W)


def behind_labels(labels: ir.Value) -> ir.Value | None:
    """The scores (N, C, H, W) whose argmax ``labels`` are; None where that is not what they are."""
    node = _best(labels, _RENAMED)
    scores = node.inputs[0] if node is not None else None
    if node is None or scores is None or _axis(node) not in _CLASSES:
        return None
    return scores if scores.shape is not None and len(scores.shape) == 4 else None


def scored(labels: ir.Value) -> int | None:
    """Of how many classes ``labels``, of whatever type, size and order, are the best; else None."""
    node = _best(labels, _PLACED)
    scores = node.inputs[0] if node is not None else None
    if node is None or scores is None or scores.shape is None:
        return None
    return int(scores.shape.numpy()[_axis(node) or 0])


def behind_shares(scores: ir.Value) -> ir.Value:
    """The scores that probabilities were made of, pixel by pixel; else themselves."""
    return _before(scores, _MONOTONE)


def behind_enlargement(scores: ir.Value) -> ir.Value:
    """The scores that these are a bilinear enlargement of; themselves where they are none."""
    node = scores.producer()
    source = node.inputs[0] if node is not None and node.op_type == "Resize" else None
    if node is None or source is None or source.shape is None or scores.shape is None:
        return scores
    given = {name: attribute.value for name, attribute in node.attributes.items()}
    linear = given.get("mode") == "linear" and not given.get("antialias")
    way = given.get("coordinate_transformation_mode", "half_pixel")
    small, large = source.shape.numpy(), scores.shape.numpy()
    enlarges = small[:2] == large[:2] and all(a <= b for a, b in zip(small, large, strict=True))
    return source if linear and way in _LINEAR and enlarges else scores


def threshold(score: ir.Value) -> float:
    """Above which the one score of a pixel means the class: the middle of what it can be, of
    logits 0."""
    low, high = _bounds(score)
    middle = (low + high) / 2
    return middle if np.isfinite(middle) else 0.0


def _bounds(value: ir.Value) -> tuple[float, float]:
    """The lowest and the highest that ``value`` can be, by the last steps that made it."""
    if value.const_value is not None:
        array = value.const_value.numpy()
        return float(array.min()), float(array.max())
    node = value.producer()
    if node is None or (source := node.inputs[0]) is None:
        return -np.inf, np.inf
    if node.op_type in _BOUNDS:
        return _BOUNDS[node.op_type]
    if node.op_type in _KEPT:
        return _bounds(source)
    if node.op_type == "Clip":
        low, high = _bounds(source)
        least, most = (*node.inputs[1:], None, None)[:2]
        low = low if least is None else max(low, _bounds(least)[0])
        return low, high if most is None else min(high, _bounds(most)[1])
    known = [of for of in node.inputs if of is not None and of.const_value is not None]
    if node.op_type in _ARITHMETIC and known:
        left, right = (_bounds(of) for of in node.inputs if of is not None)
        with np.errstate(all="ignore"):
            found = _ARITHMETIC[node.op_type].outer(left, right)
        return float(found.min()), float(found.max())
    return -np.inf, np.inf


def _best(labels: ir.Value, kinds: Collection[str]) -> ir.Node | None:
    node = _before(labels, kinds).producer()
    return node if node is not None and node.op_type == "ArgMax" else None


def _before(value: ir.Value, kinds: Collection[str]) -> ir.Value:
    """What ``value`` is made of by nodes of these kinds alone."""
    node = value.producer()
    while node is not None and node.op_type in kinds and node.inputs[0] is not None:
        if node.op_type in _SOFTMAX and _axis(node) not in _CLASSES:
            break
        if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.BOOL:
            break  # whether it is any class but the first
        value = node.inputs[0]
        node = value.producer()
    return value


def _axis(node: ir.Node) -> int | None:
    given = node.attributes.get("axis")
    return given.as_int() if given is not None else None
