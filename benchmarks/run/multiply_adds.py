"""How much a graph computes: multiply-adds of its convolutions and matrix products."""

from __future__ import annotations

from math import prod
from pathlib import Path

import onnx


def multiply_adds(graph: Path) -> int | None:
    """Of one run of an ONNX file, batch and all; None where a shape in it is not known.

    Counted are Conv, ConvTranspose, Gemm and MatMul, quantised (Q/DQ) or not: everything else is
    under 1 % of these networks. HED inside the graph counts, for it runs with every frame.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(str(graph)))
    shapes = _shapes(model.graph)
    total = 0
    for node in model.graph.node:
        count = _COUNTS.get(node.op_type)
        if count is None:
            continue
        known = [shapes.get(name) for name in (node.input[0], node.input[1], node.output[0])]
        if any(shape is None or 0 in shape for shape in known):
            return None
        total += count(*known)
    return total


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Shapes by tensor; 0 stands for a side that is not known."""
    values = (*graph.input, *graph.value_info, *graph.output)
    found = {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in values
    }
    return found | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


Shape = tuple[int, ...]

# By operator: (data, weights, answer) → multiply-adds. A convolution's weights are
# (out, in / groups, kernel…), a transposed one's (in, out / groups, kernel…).
_COUNTS = {
    "Conv": lambda data, weights, answer: prod(answer) * prod(weights[1:]),
    "ConvTranspose": lambda data, weights, answer: prod(data) * prod(weights[1:]),
    "MatMul": lambda data, weights, answer: prod(answer) * data[-1],
    "Gemm": lambda data, weights, answer: prod(data) * answer[-1],
}
