"""The code of a tensor, and constants of a graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir


@dataclass(frozen=True)
class Scale:
    """A tensor's code: value = scale × (code − zero_point); scale (C,) for weights, else ()."""

    scale: np.ndarray
    zero_point: np.ndarray


def constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new initializer of ``graph``."""
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value
