"""An ONNX file's border, and its graph up to a tensor, without loading it: no library parses it."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}
_DEPTH = 32  # of graphs inside graphs
# Fields of onnx.proto by message.
_GRAPH, _FUNCTIONS, _NODE, _ATTRIBUTE = 7, 25, 1, 5
_INITIALIZER, _SPARSE, _INPUT, _OUTPUT, _VALUE_INFO = 5, 15, 11, 12, 13
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE_TENSORS = 5, 6, 10, 11, 23
_EXTERNAL, _LOCATION = 13, 14  # of a tensor
_FUNCTION_NODE = 7
_NODE_INPUT, _NODE_OUTPUT = 1, 2

Tensor = tuple[str, tuple[int | None, ...]]  # data type and shape, None where a side is open


@dataclass(frozen=True)
class Border:
    """What a graph takes and what it names: data type and shape by the tensor's name.

    inputs: without those that are initialisers; outputs: tensors that can be asked for, those in
    between included where the file describes them.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def read_border(path: Path) -> Border:
    """Read the border of the graph in ``path``; ValueError says what is wrong with the file.

    A graph that keeps tensors in other files is refused: no digest covers those.
    """
    if not path.stat().st_size:
        raise ValueError("the file is empty")
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _border(memoryview(data))
    except IndexError as error:
        raise ValueError("not an ONNX model, or a damaged one") from error


def write_part(path: Path, tensor: str, target: Path) -> None:
    """Write the graph in ``path``, which ``read_border`` took, to ``target`` as far as ``tensor``.

    That is its only output, and nodes that read it, or what comes of it, are left out. An engine
    that is asked for a tensor in between may compute all that lies behind it as well.
    """
    with path.open("rb") as file, target.open("wb") as out:
        model = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        for number, value, whole in _spans(model):
            if number == _GRAPH and isinstance(value, memoryview):
                kept = list(_up_to(value, tensor))
                out.write(_prefix(_GRAPH, sum(map(len, kept))))
                out.writelines(kept)
            else:
                out.write(whole)


def _up_to(graph: memoryview, tensor: str) -> Iterator[bytes | memoryview]:
    """The graph's fields, as they are in the file."""
    behind = {tensor}
    for number, value, whole in _spans(graph):
        if isinstance(value, memoryview):
            if number == _NODE and behind & set(_texts(value, _NODE_INPUT)):
                behind.update(_texts(value, _NODE_OUTPUT))
                continue
            if number in (_OUTPUT, _VALUE_INFO) and _text(value, 1) == tensor:
                yield _prefix(_OUTPUT, len(value))
                yield value
                continue
        if number != _OUTPUT:
            yield whole


def _border(model: memoryview) -> Border:
    graphs = []
    for number, value in _messages(model):
        if number == _GRAPH:
            graphs.append(value)
        elif number == _FUNCTIONS:
            for inner, node in _messages(value):
                if inner == _FUNCTION_NODE:
                    _check_node(node, 0)
    if len(graphs) != 1:
        raise ValueError("not an ONNX model: it holds no graph")
    _check_graph(graphs[0], 0)
    found: dict[int, dict[str, Tensor]] = {_INPUT: {}, _OUTPUT: {}, _VALUE_INFO: {}}
    constants = set()
    for number, value in _messages(graphs[0]):
        if number in found:
            name, tensor = _value_info(value)
            if name in found[number]:
                raise ValueError("two tensors of its border share a name")
            found[number][name] = tensor
        elif number == _INITIALIZER:
            constants.add(_text(value, 8))
    inputs = {name: tensor for name, tensor in found[_INPUT].items() if name not in constants}
    return Border(inputs, found[_VALUE_INFO] | found[_OUTPUT])


def _check_graph(graph: memoryview, depth: int) -> None:
    for number, value in _messages(graph):
        if number == _NODE:
            _check_node(value, depth)
        elif number == _INITIALIZER:
            _check_tensor(value)
        elif number == _SPARSE:
            _check_sparse(value)


def _check_node(node: memoryview, depth: int) -> None:
    if depth > _DEPTH:
        raise ValueError("graphs inside graphs, too deep")
    for number, attribute in _messages(node):
        if number != _ATTRIBUTE:
            continue
        for inner, value in _messages(attribute):
            if inner in (_TENSOR, _TENSORS):
                _check_tensor(value)
            elif inner in (_SUBGRAPH, _SUBGRAPHS):
                _check_graph(value, depth + 1)
            elif inner in (22, _SPARSE_TENSORS):
                _check_sparse(value)


def _check_sparse(tensor: memoryview) -> None:
    for number, value in _messages(tensor):
        if number in (1, 2):
            _check_tensor(value)


def _check_tensor(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number == _EXTERNAL or (number == _LOCATION and value == 1):
            raise ValueError("it keeps tensors in another file, which no digest covers")


def _value_info(info: memoryview) -> tuple[str, Tensor]:
    dtype, shape = "", tuple[int | None, ...]()
    for number, kind in _messages(info):
        if number != 2:
            continue
        for inner, tensor in _messages(kind):
            if inner != 1:
                continue
            for field, value in _fields(tensor):
                if field == 1 and isinstance(value, int):
                    dtype = _DTYPES.get(value, f"type {value}")
                elif field == 2 and isinstance(value, memoryview):
                    shape = tuple(_side(dim) for number, dim in _messages(value) if number == 1)
    return _text(info, 1), (dtype, shape)


def _side(dim: memoryview) -> int | None:
    for number, value in _fields(dim):
        if number == 1 and isinstance(value, int):
            return value
    return None


def _text(message: memoryview, wanted: int) -> str:
    return next(_texts(message, wanted), "")


def _texts(message: memoryview, wanted: int) -> Iterator[str]:
    for number, value in _messages(message):
        if number == wanted:
            yield bytes(value).decode("utf-8", "replace")


def _messages(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    for number, value in _fields(message):
        if isinstance(value, memoryview):
            yield number, value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protobuf message: numbers as they are, all else as views, unread."""
    for number, value, _ in _spans(message):
        yield number, value


def _spans(message: memoryview) -> Iterator[tuple[int, int | memoryview, memoryview]]:
    """The same, each with all its bytes, its key's included."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value, message[start:at]
            continue
        if kind == 2:
            size, at = _varint(message, at)
        else:
            size = {1: 8, 5: 4}.get(kind, len(message) + 1)
        if size > len(message) - at:
            raise IndexError
        yield key >> 3, message[at : at + size], message[start : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise IndexError


def _prefix(number: int, size: int) -> bytes:
    """What stands before a message of ``size`` bytes in field ``number``."""
    code = bytearray([number << 3 | 2])
    while size > 127:
        code.append(size & 127 | 128)
        size >>= 7
    code.append(size)
    return bytes(code)
