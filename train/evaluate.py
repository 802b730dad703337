"""Accuracy of a checkpoint at the labels' own resolution: ``python -m train.evaluate``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import torch
import tyro
from PIL import Image
from rich.table import Table

from runtime import cli, files
from runtime.accuracy.metrics import BoundaryF, ConfusionMatrix, Scores, scores
from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError, one_line
from runtime.outputs.checks import check_outputs
from train.checkpoint import Checkpoint, find_checkpoint
from train.datasets import audit, default_data, open_index
from train.datasets.index import Index, Item
from train.device import exact_fp32
from train.models import DeepLab
from train.models.hed import upsample


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained model: mIoU, IoU per class, pixel accuracy, boundary F.

    Example: python -m train.evaluate runs/dlse_hed-mobilenet_v2 --data camvid --json r.json
    """

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder or checkpoint file. Default: the newest run."""
    data: Path | None = None
    """The data set. Default: the one the model was trained on."""
    split: str = "val"
    """Split of the data set."""
    size: tuple[int, int] | None = None
    """Network input H W. Default: the size the model was validated at."""
    save: Path | None = None
    """Write input | target | prediction | edges of every image side by side to this folder."""
    json: Path | None = None
    """Write the scores to this file."""


@dataclass(frozen=True, kw_only=True)
class Report(Scores):
    """The stable keys of ``--json``."""

    images: int


@dataclass(frozen=True)
class Evaluation:
    """Scores over a split, in 0..1; boundary F is None if it was not computed."""

    confusion: ConfusionMatrix
    boundary: BoundaryF | None
    images: int

    def report(self) -> Report:
        """For ``--json``."""
        return Report(**vars(scores(self.confusion, self.boundary)), images=self.images)


class Answer(NamedTuple):
    """image: (H, W, 3) uint8 RGB; target, labels: (H, W) uint8; edges: (h, w) float32 or None."""

    item: Item
    image: np.ndarray
    target: np.ndarray
    labels: np.ndarray
    edges: np.ndarray | None


@torch.inference_mode()
def predict(
    model: DeepLab, image: np.ndarray, size: tuple[int, int], out_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W, 3) uint8 RGB → (h, w) uint8 labels of ``out_size``, and the edge map at ``size``.

    The same steps as the exported graph: bilinear to the network's ``size``, network, logits
    bilinear to ``out_size``, argmax. Edges are (H, W) float32 in 0..1, None without HED.
    """
    parameter = next(model.parameters())
    x = torch.from_numpy(image.copy()).to(parameter.device).permute(2, 0, 1)[None].float() / 255
    x = upsample(x, size).to(memory_format=torch.channels_last)
    logits, edges = model(x, out_size)
    labels = logits.argmax(1)[0].to(torch.uint8).cpu().numpy()
    if edges is None:
        return labels, None
    return labels, upsample(edges[-1].float(), size).sigmoid()[0, 0].cpu().numpy()


def evaluate(
    model: DeepLab, index: Index, size: tuple[int, int], boundaries: bool = True
) -> Evaluation:
    """Run ``model`` over ``index``; labels are compared at their own resolution."""
    return score(predictions(model, index, size, index.items), index.classes, boundaries)


def score(answers: Iterable[Answer], classes: ClassSet, boundaries: bool = True) -> Evaluation:
    """Add up answers as they come."""
    confusion = ConfusionMatrix(classes)
    boundary = BoundaryF(classes) if boundaries else None
    count = 0
    for answer in answers:
        confusion.update(answer.target, answer.labels)
        if boundary is not None:
            boundary.update(answer.target, answer.labels)
        count += 1
    return Evaluation(confusion, boundary, count)


def predictions(
    model: DeepLab, index: Index, size: tuple[int, int], items: Iterable[Item]
) -> Iterator[Answer]:
    """The model's answers to ``items`` of ``index``, one at a time."""
    for item in items:
        image, target = index.read(item)
        labels, edges = predict(model, image, size, (target.shape[0], target.shape[1]))
        yield Answer(item, image, target, labels, edges)


def load_model(checkpoint: Checkpoint) -> DeepLab:
    """The network of a checkpoint, in evaluation mode, on the CPU.

    HedgeError unless its weights are exactly those of the network that it describes.
    """
    path = checkpoint.path or "checkpoint"
    try:
        with torch.device("meta"):  # its shapes alone: a name stands for any number of gigabytes
            described = DeepLab(checkpoint.model).state_dict()
    except Exception as error:  # a file from anywhere may describe anything
        raise HedgeError(f"{path}: describes no network: {one_line(error)}") from error
    own, given = (
        {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}
        for state in (described, checkpoint.weights)
    )
    if own != given:
        odd = min(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        raise HedgeError(
            f"{path}: its weights are not those of its network ({odd}); export or train it again"
        )
    model = DeepLab(checkpoint.model)
    model.load_state_dict(checkpoint.weights)
    return model.eval().to(memory_format=torch.channels_last)


def evaluation_index(checkpoint: Checkpoint, data: Path | None, split: str) -> Index:
    """The split to measure ``checkpoint`` on; refuses other classes, warns of odd labels."""
    index = open_index(data or checkpoint.config.data or default_data(), split)
    there, known = index.classes.names, checkpoint.classes.names
    if there != known:
        first = next(i for i, (a, b) in enumerate(zip_longest(there, known)) if a != b)
        raise HedgeError(
            f"{index.root}: {len(there)} classes, but the model knows {len(known)}; class {first} "
            f"is {(*there, 'none')[first]} here and {(*known, 'none')[first]} there"
        )
    audit.warn_of(index)
    return index


def main(config: Evaluate) -> None:
    """Evaluate a run and print the table."""
    path = find_checkpoint(config.run)
    evaluation = evaluate_run(replace(config, run=path))
    where = f" on {config.data}" if config.data else ""
    cli.out.print(_table(evaluation, f"{path}{where} ({config.split})"))


def evaluate_run(config: Evaluate) -> Evaluation:
    """Measure a run as the command does, saving what ``config`` asks for. Raises HedgeError."""
    path = find_checkpoint(config.run)
    checkpoint = Checkpoint.load(path)
    index = evaluation_index(checkpoint, config.data, config.split)
    read = [path, index.root, *(p for item in index.items for p in (item.image, item.label))]
    check_outputs([config.json] if config.json else [], config.save, read, force=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(checkpoint).to(device)
    items = cli.track(index.items, f"evaluating {path}")
    answers = predictions(model, index, config.size or checkpoint.size, items)
    if config.save:
        answers = _saved(answers, index.classes, config.save)
    with exact_fp32():
        evaluation = score(answers, index.classes)
    if config.json:
        content = msgspec.json.encode(evaluation.report())
        files.write_bytes(config.json, msgspec.json.format(content))
    return evaluation


def side_by_side(answer: Answer, classes: ClassSet) -> np.ndarray:
    """(H, 3W or 4W, 3) uint8 RGB: input | target | prediction | edges."""
    colors = classes.palette()[:, ::-1]
    panels = [answer.image, colors[answer.target], colors[answer.labels]]
    if answer.edges is not None:
        gray = Image.fromarray((answer.edges * 255).astype(np.uint8))
        size = (answer.image.shape[1], answer.image.shape[0])
        panels.append(np.asarray(gray.resize(size).convert("RGB")))
    return np.concatenate(panels, axis=1)


def _saved(answers: Iterable[Answer], classes: ClassSet, folder: Path) -> Iterator[Answer]:
    for answer in answers:
        with files.atomic_path(folder / f"{answer.item.name}.png") as temporary:
            Image.fromarray(side_by_side(answer, classes)).save(temporary)
        yield answer


def _table(evaluation: Evaluation, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    table.add_column("IoU %", justify="right")
    table.add_column("boundary F %", justify="right")
    assert evaluation.boundary is not None
    scores = evaluation.boundary.f()
    for name, iou, f in zip(
        evaluation.confusion.classes.names, evaluation.confusion.iou(), scores, strict=True
    ):
        table.add_row(name, _percent(iou), _percent(f))
    table.add_section()
    mean_f = evaluation.boundary.mean()
    table.add_row("mean", _percent(evaluation.confusion.miou()), _percent(mean_f), style="bold")
    accuracy = _percent(evaluation.confusion.pixel_accuracy())
    table.caption = (
        f"{evaluation.images} images, pixel accuracy {accuracy} %, "
        f"boundary tolerance {evaluation.boundary.tolerance} px"
    )
    return table


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.2f}"


if __name__ == "__main__":
    cli.run(Evaluate, main, "python -m train.evaluate")
