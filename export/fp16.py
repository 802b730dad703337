"""FP32 graph → the same graph computed in FP16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from runtime.outputs.checks import writing

FULL, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
QUANTIZED = 19  # the first opset whose Q/DQ takes FP16; what else we use is as in 18


def to_fp16(source: Path, target: Path) -> None:
    """Write ``source`` with FP16 weights and activations to ``target``; outputs keep theirs.

    Weights are rounded as they stand, batch-norms already folded into them: a network that is
    halved before it is exported folds in FP16 and loses more.
    """
    model = ir.load(source)
    graph = model.graph
    for value in graph.initializers.values():
        if value.dtype == FULL and not _is_scale_of_resize(value):
            assert value.const_value is not None
            array = value.const_value.numpy().astype(np.float16)
            value.const_value = ir.tensor(array, name=value.name)
            value.type = ir.TensorType(HALF)
    for node in graph:
        if node.op_type == "Cast" and node.attributes["to"].as_int() == FULL:
            node.attributes["to"] = ir.AttrInt64("to", HALF)
        for value in node.outputs:
            if value.dtype == FULL:
                value.type = ir.TensorType(HALF)
    if any(node.op_type == "DequantizeLinear" for node in graph):  # it was quantised already
        graph.opset_imports[""] = max(QUANTIZED, graph.opset_imports[""])
    for number, value in enumerate(graph.outputs):
        if value.dtype == HALF:
            graph.outputs[number] = _restored(graph, value)
    with writing(target):
        ir.save(model, target)
    onnx.checker.check_model(str(target), full_check=True)


def _is_scale_of_resize(value: ir.Value) -> bool:
    """Factors of a Resize are FP32 whatever it resizes."""
    return any(use.node.op_type == "Resize" and use.idx > 0 for use in value.uses())


def _restored(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """An FP32 output of ``value``'s name, cast from it."""
    producer, name = value.producer(), value.name
    assert producer is not None
    value.name = f"{name}_half"
    cast = ir.node("Cast", [value], {"to": int(FULL)}, name=f"{name}_restored")
    output = cast.outputs[0]
    output.name, output.shape, output.type = name, value.shape, ir.TensorType(FULL)
    graph.insert_after(producer, cast)
    return output
