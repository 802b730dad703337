"""Where the Q/DQ pair of an activation stands."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from export.int8.codes import Scale, constant

Kept = Collection[str]  # names of layers that stay in floating point
Pairs = dict[tuple[ir.Value, float], ir.Value]  # what has a pair, and its scale → what is read
MOVES = {"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}  # change no value


def put_pair(graph: ir.Graph, value: ir.Value, code: Scale, kept: Kept, pairs: Pairs) -> None:
    """Let every reader of ``value`` but the layers that are kept read it behind a pair.

    The pair stands before what only moves the value, so that the layer before computes the codes
    and bytes are moved: between tokens and a product with weights stands a Reshape, behind which
    a pair was seen to be a pass of its own. Several layers that move one value share its pair.
    """
    name, readers = str(value.name), _readers(value, kept)
    while len(readers) == len(value.uses()) and (source := _moved(value)) is not None:
        readers = [(n, i) for n, i in _readers(source, ()) if n is value.producer()]
        value = source
    scale = code.scale.item()
    read = pairs.get((value, scale))
    if read is None:
        read = _pair(graph, value, code, name)
        pairs[value, scale] = pairs[read, scale] = read
    for reader, index in readers:
        reader.replace_input_with(index, read)


def _readers(value: ir.Value, kept: Kept) -> list[tuple[ir.Node, int]]:
    """Who reads ``value``, and as which input, but for its pair and what is kept."""
    uses = [(use.node, use.idx) for use in value.uses() if use.node.op_type != "QuantizeLinear"]
    return [(node, index) for node, index in uses if node.name not in kept]


def _moved(value: ir.Value) -> ir.Value | None:
    """The activation that ``value`` is in another order or shape; None where it is not."""
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type in MOVES else None
    return source if source is not None and source.producer() is not None else None


def _pair(graph: ir.Graph, value: ir.Value, code: Scale, name: str) -> ir.Value:
    """``value`` as its codes tell it, read by nobody yet; name: of what asked for it."""
    producer = value.producer()
    assert producer is not None and value.dtype is not None
    parts = [
        constant(graph, f"{name}_scale", code.scale.astype(value.dtype.numpy())),
        constant(graph, f"{name}_zero_point", np.asarray(code.zero_point)),
    ]
    quantize = ir.node("QuantizeLinear", [value, *parts], name=f"{name}_quantize")
    quantize.outputs[0].name = f"{name}_quantized"
    dequantize = ir.node(
        "DequantizeLinear", [quantize.outputs[0], *parts], name=f"{name}_dequantize"
    )
    dequantize.outputs[0].name = f"{name}_dequantized"
    graph.insert_after(producer, [quantize, dequantize])
    return dequantize.outputs[0]
