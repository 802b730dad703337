"""PyTorch → ONNX, in the form that edge engines run fast."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxscript import opset18 as op
from onnxscript.onnx_types import TensorType

from export.own.deploy import DeployGraph
from export.own.fold import folded
from runtime.errors import HedgeError
from runtime.outputs.checks import writing

OPSET = 18  # TensorRT 10 and 11, OpenVINO and ONNX Runtime all read it
INPUT, OUTPUT, LOGITS = "frame", "labels", "logits"


def _mean(self: TensorType, dim: Sequence[int], keepdim: bool = False, dtype: int = -1) -> object:
    """Over H and W, as in every gate: GlobalAveragePool.

    Left to the exporter these become ReduceMean, which costs ONNX Runtime's INT8 path 62 % of a
    frame against 3 % as GlobalAveragePool. Other means are that of ConvNeXt V2 over its channels,
    or of coordinate attention over a row.
    """
    if len(self.shape) != 4 or {axis % 4 for axis in dim} != {2, 3}:
        return op.ReduceMean(self, op.Constant(value_ints=list(dim)), keepdims=keepdim)
    pooled = op.GlobalAveragePool(self)
    return pooled if keepdim else op.Squeeze(pooled, op.Constant(value_ints=[2, 3]))


_TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten.mean.dim: _mean}


def to_onnx(graph: DeployGraph, batch: int, path: Path) -> None:
    """Write ``graph`` to ``path`` as one self-contained ONNX file and check it.

    Input ``frame``: uint8 (batch, H, W, 3) BGR; outputs ``labels``: uint8 (batch, H, W), and the
    ``logits`` they come from: float32 (batch, C, H/4, W/4); all shapes static, normalisation and
    batch-norms folded into convolutions (``export.own.fold``). HedgeError if it is not valid.
    """
    frame = torch.zeros(batch, *graph.frame_size, 3, dtype=torch.uint8)
    with quiet():
        program = torch.onnx.export(
            folded(graph),
            (frame,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT, LOGITS],
            custom_translation_table=_TRANSLATIONS,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with paths of this machine
    with writing(path):
        program.save(str(path), external_data=False)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except onnx.checker.ValidationError as error:
        raise HedgeError(f"{path}: the exported graph is not valid ONNX: {error}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter narrates and warns about its own internals; none of it is for our users."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
