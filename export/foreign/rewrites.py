"""The same arithmetic in another order: what engines compute faster, or can compute at all."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from export.int8.codes import constant
from export.int8.pairs import MOVES
from export.int8.qdq import output_axis

ACTIVATIONS = {"Elu", "Gelu", "HardSwish", "LeakyRelu", "Relu"}  # none that ends a network
Part = tuple[ir.Value, np.ndarray]  # of a concatenation, and the channels that it becomes
TOUCH = 64  # INT8 multiply-adds of a CPU, seen, while it enlarges one value, or adds one


def rewrite(model: ir.Model) -> None:
    """Rewrite a graph whose shapes are known; its answers stay, but for rounding."""
    first = (_slice, _pool, _flatten_indices, _drop_idle)
    for change in (*first, _activate_first, _weigh_first, _multiply):
        change(model.graph)
        RemoveUnusedNodesPass()(model)
        ShapeInferencePass()(model)


def _slice(graph: ir.Graph) -> None:
    """Parts of a sequence that a tensor is split into are slices of it, as every engine has them.

    PyTorch before 2.7 writes chunk() and split() as sequences, whose types are lost here.
    """
    for node in graph:
        sequence = node.inputs[0] if node.op_type == "SequenceAt" else None
        source = sequence.producer() if sequence is not None else None
        if source is None or source.op_type != "SplitToSequence":
            continue
        parts, place = (_constant(*of) for of in ((source, 1), (node, 1)))
        if parts is None or place is None or len(source.inputs) < 2 or place < 0:
            continue
        ends = parts.cumsum() if parts.ndim else parts * np.arange(1, int(place) + 2)
        stop = int(ends[int(place)])
        start = stop - int(parts[int(place)] if parts.ndim else parts)
        axis = source.attributes.get("axis")
        numbers = {"start": start, "stop": stop, "axis": axis.as_int() if axis is not None else 0}
        bounds = [
            constant(graph, f"{node.name}.{name}", np.array([number], np.int64))
            for name, number in numbers.items()
        ]
        part = ir.node("Slice", [source.inputs[0], *bounds], name=node.name)
        ir.convenience.replace_nodes_and_values(
            graph, node, [node], [part], node.outputs, part.outputs
        )


def _pool(graph: ir.Graph) -> None:
    """Means over whole maps become GlobalAveragePool; see ``export.own.to_onnx``."""
    for node in graph:
        value, axes = (*node.inputs, None, None)[:2]
        if node.op_type != "ReduceMean" or value is None or value.shape is None:
            continue
        known = axes.const_value.numpy().tolist() if axes and axes.const_value else []
        kept = node.attributes.get("keepdims")
        if (
            len(value.shape) == 4
            and sorted(axis % 4 for axis in known) == [2, 3]
            and (kept is None or kept.as_int())
        ):
            pooled = ir.node("GlobalAveragePool", [value], name=node.name)
            ir.convenience.replace_nodes_and_values(
                graph, node, [node], [pooled], node.outputs, pooled.outputs
            )


def _flatten_indices(graph: ir.Graph) -> None:
    """Gather by an array of constants becomes Gather by a row of them, and a Reshape.

    OpenVINO 2026.4 fails on the former behind an INT8 convolution, as unfolded patches have it.
    """
    for node in graph:
        if node.op_type != "Gather":
            continue
        (data, indices), [answer] = node.inputs, node.outputs
        known = indices.const_value if indices is not None else None
        if data is None or known is None or len(known.shape) < 2 or answer.shape is None:
            continue
        row = constant(graph, f"{answer.name}_row", known.numpy().reshape(-1))
        shape = constant(graph, f"{answer.name}_shape", np.array(answer.shape.numpy(), np.int64))
        flat = ir.node("Gather", [data, row], node.attributes, name=node.name)
        whole = ir.node("Reshape", [flat.outputs[0], shape], name=f"{answer.name}_sides")
        ir.convenience.replace_nodes_and_values(
            graph, node, [node], [flat, whole], node.outputs, whole.outputs
        )


def _drop_idle(graph: ir.Graph) -> None:
    """A Resize to the size that its input has is left out: SegFormer enlarges every map to the
    largest, that one too."""
    for node in list(graph):
        value, answer = node.inputs[0] if node.inputs else None, node.outputs[0]
        way = node.attributes.get("coordinate_transformation_mode")
        cropped = way is not None and way.as_string() == "tf_crop_and_resize"
        if node.op_type != "Resize" or value is None or cropped or answer.is_graph_output():
            continue
        if value.shape is not None and value.shape == answer.shape:
            ir.convenience.replace_all_uses_with(answer, value)


def _activate_first(graph: ir.Graph) -> None:
    """Activations before what only moves their input, where engines fuse them into the layer that
    computes it: SegFormer's GELU stands behind a convolution's map, flattened to tokens."""
    for node in graph:
        while node.op_type in ACTIVATIONS:
            if (move := _only_reader(node.inputs[0], MOVES)) is None:
                break
            first = ir.node(node.op_type, [move.inputs[0], *node.inputs[1:]], node.attributes)
            then = ir.node(move.op_type, [first.outputs[0], *move.inputs[1:]], move.attributes)
            first.name, then.name = node.name, move.name
            ir.convenience.replace_nodes_and_values(
                graph, node, [move, node], [first, then], node.outputs, then.outputs
            )
            node = first


def _weigh_first(graph: ir.Graph) -> None:
    """1×1 convolutions come before the enlarging of what they read, part by part where that is
    concatenated, and what they answer is added up.

    Weights of a bilinear enlargement add up to 1, so the two change places. SegFormer's decoder
    enlarges its maps and weighs all of them at 1/4; LR-ASPP scores 128 enlarged channels; behind a
    mean of the whole map, ASPP weighs as many equal values as it has pixels.
    """
    for node in list(graph):
        if node.op_type == "Conv" and (weights := _pointwise(node)) is not None:
            _weigh_parts(graph, node, weights)


def _pointwise(node: ir.Node) -> np.ndarray | None:
    """The weights (O, I, 1, 1) of a convolution that works on every pixel alone; else None."""
    weights, given = node.inputs[1], {name: a.value for name, a in node.attributes.items()}
    if weights is None or weights.const_value is None:
        return None
    moves = set(given.get("strides", (1,))) != {1} or any(given.get("pads", ()))
    array = weights.const_value.numpy()
    return array if array.shape[2:] == (1, 1) and given.get("group", 1) == 1 and not moves else None


def _weigh_parts(graph: ir.Graph, node: ir.Node, weights: np.ndarray) -> None:
    """Rewrite one convolution where that saves anything."""
    answer, read = node.outputs[0], node.inputs[0]
    parts = list(_parts(read)) if read is not None else []
    enlarged: list[Part] = []
    rest: list[Part] = []
    for part in parts:
        saved = _saved(part[0], len(weights), added=len(parts) > 1)
        (enlarged if saved > 0 else rest).append(part)
    if not enlarged or answer.shape is None:
        return
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    made: list[ir.Node] = []

    def add(operator: str, inputs: list[ir.Value | None], **attributes: object) -> ir.Value:
        new = ir.node(operator, inputs, attributes, name=f"{node.name}.{len(made)}")
        new.outputs[0].name = f"{answer.name}.{len(made)}"
        new.outputs[0].type = answer.type
        made.append(new)
        return new.outputs[0]

    def weigh(value: ir.Value, channels: np.ndarray, bias: ir.Value | None) -> ir.Value:
        own = constant(graph, f"{node.name}.{len(made)}.weight", weights[:, channels])
        return add("Conv", [value, own, *([bias] if bias is not None else [])])

    terms = []
    if rest:
        values = [value for value, _ in rest]
        whole = values[0] if len(values) == 1 else add("Concat", [*values], axis=1)
        terms.append(weigh(whole, np.concatenate([channels for _, channels in rest]), bias))
        bias = None
    for value, channels in enlarged:
        resize = value.producer()
        assert resize is not None and resize.inputs[0] is not None
        small, bias = weigh(resize.inputs[0], channels, bias), None
        if terms and _is_pooled(resize.inputs[0]):  # added to every pixel as it is
            terms.append(small)
            continue
        ways = [*resize.inputs[1:]]
        if len(ways) > 2:  # by its size, which names the channels
            sides = np.array(answer.shape.numpy(), np.int64)
            ways[2] = constant(graph, f"{node.name}.{len(made)}.sizes", sides)
        kept = {name: attribute.value for name, attribute in resize.attributes.items()}
        terms.append(add("Resize", [small, *ways], **kept))
    total = terms[0]
    for term in terms[1:]:
        total = add("Add", [total, term])
    ir.convenience.replace_nodes_and_values(graph, node, [node], made, [answer], [total])


def _parts(value: ir.Value) -> Iterator[Part]:
    """What ``value`` is concatenated of for one reader; else itself."""
    node, start = _only_reader(value, {"Concat"}), 0
    joined = node is not None and node.attributes["axis"].as_int() == 1
    for part in node.inputs if node is not None and joined else (value,):
        assert part is not None and part.shape is not None
        stop = start + int(part.shape.numpy()[1])
        yield part, np.arange(start, stop)
        start = stop


def _saved(value: ir.Value, answers: int, added: bool) -> float:
    """Multiply-adds a pixel that are saved where ``answers`` channels are weighed before ``value``
    is enlarged; 0 where it is no bilinear enlargement, or one that others read.

    added: whether the answers are added to others.
    """
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type == "Resize" else None
    if node is None or source is None or source.shape is None or value.shape is None:
        return 0
    given = {name: attribute.value for name, attribute in node.attributes.items()}
    small, large = source.shape.numpy(), value.shape.numpy()
    if (
        len(small) != 4
        or small[:2] != large[:2]
        or small[2] * small[3] >= large[2] * large[3]
        or given.get("mode") != "linear"
        or given.get("coordinate_transformation_mode") == "tf_crop_and_resize"
        or "axes" in given
        or len(value.uses()) > 1
    ):
        return 0
    channels, share = small[1], np.prod(small[2:]) / np.prod(large[2:])
    weighed = answers * channels * (1 - share)
    return float(weighed + TOUCH * (channels - answers) - TOUCH * answers * added)


def _is_pooled(value: ir.Value) -> bool:
    """Whether a map has one pixel."""
    return value.shape is not None and tuple(value.shape.numpy()[2:]) == (1, 1)


def _multiply(graph: ir.Graph) -> None:
    """A 1×1 convolution of a product with weights becomes part of it, where their answers are as
    wide: what SegFormer's decoder weighs at each resolution it has just made by a linear layer."""
    for node in list(graph):
        weights = _pointwise(node) if node.op_type == "Conv" else None
        value, moves = node.inputs[0], []
        while (move := _only_reader(value, MOVES)) is not None:
            moves.append(move)
            value = move.inputs[0]
        product = _only_reader(value, {"Gemm"})
        if weights is None or product is None or (axis := output_axis(product)) is None:
            continue
        assert value is not None
        if weights.shape[0] == weights.shape[1] and _keeps_channels(value, moves[::-1]):
            _absorb(graph, product, node, weights[:, :, 0, 0].astype(np.float64), axis)


def _only_reader(value: ir.Value | None, kinds: Collection[str]) -> ir.Node | None:
    """The node of these kinds that makes ``value`` for one reader alone, and as no answer."""
    alone = value is not None and len(value.uses()) == 1 and not value.is_graph_output()
    node = value.producer() if value is not None and alone else None
    return node if node is not None and node.op_type in kinds else None


def _keeps_channels(rows: ir.Value, moves: Sequence[ir.Node]) -> bool:
    """Whether the columns of ``rows`` (N, C) are the planes of what ``moves`` make of them."""
    if rows.shape is None or len(rows.shape) != 2:
        return False
    count, columns = rows.shape.numpy()
    places = np.broadcast_to(np.arange(columns, dtype=np.uint16), (count, columns))
    for move in moves:
        shape = move.outputs[0].shape
        if shape is None:
            return False
        if move.op_type == "Transpose":
            turn = move.attributes.get("perm")
            places = places.transpose(turn.as_ints() if turn is not None else None)
        else:
            places = places.reshape(shape.numpy())
    planes = places.ndim == 4 and places.shape[1] == columns
    return planes and bool((places == np.arange(columns).reshape(1, -1, 1, 1)).all())


def _absorb(
    graph: ir.Graph, product: ir.Node, node: ir.Node, weights: np.ndarray, axis: int
) -> None:
    """Let ``product`` answer what ``node``, a convolution of (O, I) ``weights``, makes of it."""
    own, first, second = (_constant(*of) for of in ((product, 1), (product, 2), (node, 2)))
    moved, answer = node.inputs[0], node.outputs[0]
    if own is None or first is None or second is None or moved is None or answer.is_graph_output():
        return
    whole = weights @ own if axis == 0 else own @ weights.T
    # One for every row, or for each its own, as embeddings of places are.
    bias = np.broadcast_to(first, (*first.shape[:-1], len(weights))) @ weights.T + second
    parts = [
        constant(graph, f"{product.name}.{node.name}.weight", whole.astype(own.dtype)),
        constant(graph, f"{product.name}.{node.name}.bias", bias.astype(own.dtype)),
    ]
    new = ir.node("Gemm", [product.inputs[0], *parts], product.attributes, name=product.name)
    ir.convenience.replace_nodes_and_values(
        graph, product, [product], [new], product.outputs, new.outputs
    )
    ir.convenience.replace_all_uses_with(answer, moved)


def _constant(node: ir.Node, index: int) -> np.ndarray | None:
    """A parameter: zero where the node has none, None where it is not known."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return np.zeros(1)
    return None if value.const_value is None else value.const_value.numpy()
