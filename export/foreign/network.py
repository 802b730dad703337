"""A network of somebody else, as one to export."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch

from export.config import Export
from export.foreign.opened import Border, Opened, Size
from export.foreign.surround import Colors, nearest, surround
from export.network import Deployed, Facts
from runtime.backends import ort
from runtime.bundle import class_list
from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError, one_line
from runtime.outputs.checks import writing
from train.datasets import Index, is_data, open_index
from train.datasets.matching import matching_index
from train.models.hed import upsample

_OBJECTS = {"classify", "detect", "depth", "obb", "pose", "segment"}  # tasks of Ultralytics
Run = Callable[[torch.Tensor], torch.Tensor]


class Original(Deployed):
    """The network as it was given, with what its author has before and behind it, in PyTorch."""

    def __init__(self, run: Run, border: Border, colors: Colors, frame_size: Size) -> None:
        super().__init__()
        self.run, self.border, self.frame_size = run, border, frame_size
        mean, factor = (torch.from_numpy(part).float() for part in colors.planes())
        self.mean, self.factor = mean.reshape(1, 3, 1, 1), factor.reshape(1, 3, 1, 1)
        self.bgr = colors.bgr

    def forward(self, frame: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 BGR frames → uint8 labels, and what the network answers."""
        planes = frame.float().permute(0, 3, 1, 2)
        image = upsample(planes if self.bgr else planes.flip(1), self.border.size)
        image = (image - self.mean) * self.factor
        answer = self.run((image if self.border.planes else image.permute(0, 2, 3, 1)).contiguous())
        if self.border.labels:
            labels = answer.reshape(len(frame), *self.border.answer)
            rows, columns = map(nearest, self.border.answer, self.frame_size)
            return labels[:, rows][:, :, columns].to(torch.uint8), answer
        scores = answer.permute(0, 3, 1, 2) if self.border.last else answer
        if self.border.threshold is not None:
            whole = 2 * self.border.threshold
            rest = whole - scores if whole else torch.zeros_like(scores)
            scores = torch.cat([rest, scores], 1)
        return upsample(scores, self.frame_size).argmax(1).to(torch.uint8), scores


@dataclass(frozen=True)
class Source:
    """Where a network comes from: how it is run as it was given, and as ONNX.

    name: of bundles; called: by messages and manifests; origin: who runs it; opened: the graph that
    takes so many images at once; output: which of its outputs, None where there is one.
    """

    name: str
    called: str
    origin: str
    run: Callable[[Border], Run]
    opened: Callable[[int], Opened]
    output: str | None
    autocasts: bool


class Foreign:
    """See ``export.network.Network``.

    Raises HedgeError where what is asked for is not what the network is.
    """

    def __init__(self, source: Source, config: Export) -> None:
        opened = source.opened(config.batch)
        size = opened.size(config.size)
        self.border = opened.border(size, config.batch, source.output)
        self._source, self._batch = source, config.batch
        self._colors = Colors(_three(config.mean), _three(config.std), config.bgr)
        classes = _classes(config, self.border, source.called)
        self.facts = Facts(
            source.name, source.name, source.called, classes, size,
            origin=source.origin, autocasts=source.autocasts,
        )  # fmt: skip
        self._built: dict[tuple[Size, int], tuple[ir.Model, Size | None]] = {}

    def deployed(self, size: Size, frame_size: Size) -> Original:
        """See ``Network``."""
        run = self._source.run(self.border)
        original = Original(run, self.border, self._colors, frame_size)
        _, original.score_size = self._surrounded(frame_size, self._batch)
        return original

    def write(self, size: Size, frame_size: Size, batch: int, path: Path) -> None:
        """See ``Network``; of as many images as it takes, where others are not to be had."""
        model, _ = self._surrounded(frame_size, self._source.opened(batch).only or batch)
        with writing(path):
            ir.save(model, path)
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise HedgeError(
                f"{self._source.called}: not to be built around: {one_line(error)}"
            ) from error

    def multiply_adds(self, size: Size, frame_size: Size) -> int:
        """See ``Network``."""
        model, _ = self._surrounded(frame_size, self._batch)
        return sum(map(_products, model.graph)) // self._batch

    def fingerprint(self, size: Size, frame_size: Size) -> str:
        """See ``Network``."""
        digest = hashlib.sha256(repr((frame_size, self.border, self._colors)).encode())
        model, _ = self._surrounded(frame_size, self._batch)
        for node in model.graph:
            names = [value and value.name for value in (*node.inputs, *node.outputs)]
            digest.update(repr((node.op_type, names)).encode())
            for _, attribute in sorted(node.attributes.items()):
                digest.update(ir.to_proto(attribute).SerializeToString(deterministic=True))
        for name, value in sorted(model.graph.initializers.items()):
            digest.update(repr((name, value.shape)).encode())
            digest.update(value.const_value.tobytes() if value.const_value is not None else b"")
        return digest.hexdigest()

    def index(self, data: Path | None, split: str) -> Index | None:
        """See ``Network``."""
        if data is None or not is_data(data):
            return None
        return matching_index(data, self.facts.classes, split)

    def _surrounded(self, frame_size: Size, batch: int) -> tuple[ir.Model, Size | None]:
        """The whole graph, and the size of its scores; made once, to be read alone."""
        if (frame_size, batch) not in self._built:
            model = self._source.opened(batch).static(self.border.size, batch)
            scores = surround(model, self.border, self._colors, frame_size, batch)
            self._built[frame_size, batch] = model, scores
        return self._built[frame_size, batch]


def of_file(path: Path, output: str | None) -> Source:
    """An ONNX file, run by ONNX Runtime as it is."""
    opened = Opened.read(path)
    task = {entry.key: entry.value for entry in opened.model.metadata_props}.get("task")
    if task in _OBJECTS:
        raise HedgeError(
            f'{path}: of the task "{task}" by its metadata, so it does not answer which class each '
            'pixel is of; those of Ultralytics that do are of the task "semantic"'
        )

    @cache
    def session() -> onnxruntime.InferenceSession:
        return ort.session(path, 0)

    def run(border: Border) -> Run:
        def answer(image: torch.Tensor) -> torch.Tensor:
            try:
                found = session().run([border.output], {border.input: image.numpy()})[0]
            except Exception as error:  # the library raises a dozen types with no common base
                raise HedgeError(
                    f"{path}: ONNX Runtime fails to run it: {one_line(error)}"
                ) from error
            return torch.from_numpy(np.ascontiguousarray(found))

        return answer

    origin = f"ONNX Runtime {onnxruntime.__version__}"
    return Source(path.stem, path.name, origin, run, lambda batch: opened, output, autocasts=False)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def _classes(config: Export, border: Border, called: str) -> ClassSet:
    """The classes that are named, else the data set's, else as many as are scored."""
    given = config.classes
    if len(given) == 1 and (Path(given[0]).is_file() or given[0].endswith(".json")):
        found = class_list.load(Path(given[0]))
    elif given:
        found = _made([name.strip() for part in given for name in part.split(",")])
    elif config.data is not None and is_data(config.data):
        found = open_index(config.data, "val").classes
    elif border.classes is None:
        raise HedgeError(
            f"{called}: answers labels, which do not tell how many classes there are: "
            "--classes NAME … or a classes.json"
        )
    else:
        found = _made([f"class {number}" for number in range(border.classes)])
    if border.classes not in (None, len(found)):
        raise HedgeError(
            f"{called}: scores {border.classes} classes, but {len(found)} are named "
            f"({', '.join(found.names[:3])}, …): --classes wants as many, in the network's order"
        )
    return found


def _made(names: Sequence[str]) -> ClassSet:
    try:
        if len(set(names)) < len(names):
            raise ValueError("two classes share a name")
        return class_list.made(dict.fromkeys(names))
    except ValueError as error:
        raise HedgeError(f"--classes: {error}") from error


def _products(node: ir.Node) -> int:
    """Multiply-adds of a node; all but convolutions and matrix products are under 1 %."""
    answer, *_ = node.outputs
    shapes = [
        value.shape.numpy() if value is not None and value.shape else () for value in node.inputs
    ]
    size = prod(answer.shape.numpy()) if answer.shape else 0
    if node.op_type == "Conv":
        return size * prod(shapes[1][1:])
    if node.op_type == "ConvTranspose":
        return prod(shapes[0]) * prod(shapes[1][1:])
    if node.op_type == "MatMul":
        return size * shapes[0][-1]
    if node.op_type == "Gemm":
        transposed = node.attributes.get("transA")
        return size * shapes[0][0 if transposed and transposed.as_int() else 1]
    return 0
