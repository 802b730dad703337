"""Where a frame goes inside an engine: what its library executes, timed node by node.

The library's own profiler times it, in a model that is loaded for that: it says which part is how
long, not how fast the engine is. Bytes are those of all that a node reads and writes, weights
included; what comes from a cache is counted all the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from statistics import median
from typing import Any

import numpy as np

from benchmarks.cells.worker import Spec
from benchmarks.results import Layers
from runtime.backends.label_tail import label_tail
from runtime.bundle.manifest import Manifest

RUNS = 12  # of which the first sets things up
# Type of layer, and words in what libraries call such nodes; the first that fits.
KINDS = (
    ("matrix product", ("MatMul", "FullyConnected", "Gemm")),
    ("resize", ("Interpolate", "Resize")),
    ("concat, reorder", ("Concat", "Reorder", "Transpose", "Permute", "Slice", "Split")),
    ("cast, quantise", ("uantize", "Cast", "Convert")),
    ("eltwise", ("Eltwise", "Subgraph", "Add", "Mul", "Sub", "Clip", "Relu", "Sigmoid")),
)
_SIZES = {"float": 4, "float16": 2, "bfloat16": 2, "double": 8, "int32": 4, "int64": 8}  # bytes


@dataclass(frozen=True)
class Node:
    """What a library executes at once for a batch; multiply_adds: by arithmetic."""

    kind: str
    ms: float
    multiply_adds: Mapping[str, int]
    bytes: int


def layers(spec: Spec, manifest: Manifest, frames: np.ndarray) -> list[Layers]:
    """Of the engine that ``spec`` names, by type; empty where its library is not asked."""
    nodes = {"openvino": _openvino, "onnxruntime": _onnxruntime}.get(spec.backend)
    return [] if nodes is None else by_kind(nodes(spec, manifest, frames))


def by_kind(nodes: Iterable[Node]) -> list[Layers]:
    """The nodes of each type together, the longest first."""
    groups: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        groups[node.kind].append(node)
    found = []
    for kind, group in groups.items():
        products: Counter[str] = Counter()
        for node in group:
            products.update(node.multiply_adds)
        ms, size = sum(node.ms for node in group), sum(node.bytes for node in group)
        found.append(Layers(kind, len(group), ms, dict(products), size))
    return sorted(found, key=lambda one: -one.ms)


def kind_of(name: str, weights: Sequence[int] = (), channels: int = 0) -> str:
    """The type of a node; weights: (O, I, h, w) of a convolution, with I of one group."""
    if "onv" in name and len(weights) == 4:
        if weights[1] == 1 and weights[0] == channels > 1:
            return "depthwise"
        return "convolution 1×1" if prod(weights[2:]) == 1 else "convolution k×k"
    return next((kind for kind, words in KINDS if any(w in name for w in words)), "other")


def _openvino(spec: Spec, manifest: Manifest, frames: np.ndarray) -> Iterator[Node]:
    from runtime.backends import ov

    wanted, _ = label_tail(manifest)
    model = ov.compiled(
        spec.bundle, manifest, wanted, spec.threads, device=spec.device, profiled=True
    )
    request = model.create_infer_request()
    ov.fill(request, frames)
    for _ in range(RUNS):
        request.start_async()
        request.wait()
    for node in model.get_runtime_model().get_ops():
        info = {key: str(value.astype(str)) for key, value in node.get_rt_info().items()}
        if not info.get("execTimeMcs", "").isdigit():  # what was done once, or is a name alone
            continue
        products = ov.products_of(node) or {}
        weights = list(node.get_input_shape(1)) if products else []
        if len(weights) == 5:  # groups come first
            weights = [weights[0] * weights[1], *weights[2:]]
        shape = list(node.get_input_shape(0)) if node.get_input_size() else []
        ports = [
            *((node.get_input_shape(i), node.get_input_element_type(i))
              for i in range(node.get_input_size())),
            *((node.get_output_shape(i), node.get_output_element_type(i))
              for i in range(node.get_output_size())),
        ]  # fmt: skip
        yield Node(
            kind_of(info["layerType"], weights, shape[1] if len(shape) > 1 else 0),
            int(info["execTimeMcs"]) / 1e3,
            products,
            sum(prod(shape) * kind.size for shape, kind in ports),
        )


def _onnxruntime(spec: Spec, manifest: Manifest, frames: np.ndarray) -> Iterator[Node]:
    from runtime.backends import ort

    graph = spec.bundle / manifest.graph(ort.form(spec.device, spec.backend))
    wanted, _ = label_tail(manifest)
    ask = (graph, wanted, {manifest.input.name: frames}, spec.threads, spec.device)
    shapes = {
        kernel["args"]["node_index"]: kernel["args"]
        for kernel in ort.profiled(*ask, runs=1, prepacked=False)
    }
    times: dict[str, list[float]] = defaultdict(list)
    for kernel in ort.profiled(*ask, runs=RUNS):
        times[kernel["args"]["node_index"]].append(kernel["dur"] / 1e3)
    for index, ms in times.items():
        said = shapes[index]
        tensors = [next(iter(one.items())) for one in said["input_type_shape"]]
        weights = _weights(said["op_name"], [shape for _, shape in tensors])
        channels = weights[0] if weights and weights[0] in tensors[0][1][1:] else 0
        tensors += [next(iter(one.items())) for one in said["output_type_shape"]]
        yield Node(
            kind_of(said["op_name"], weights, channels),
            median(ms[1:]),
            ort.products(said),
            sum(prod(shape) * _SIZES.get(kind, 1) for kind, shape in tensors),
        )


def _weights(name: str, inputs: Sequence[Any]) -> list[int]:
    """(O, I, h, w) of a convolution: the second of its inputs that are no scales; else nothing."""
    large = [shape for shape in inputs if len(shape) == 4]
    return large[1] if "Conv" in name and len(large) > 1 else []
