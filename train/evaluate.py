"""Accuracy of a checkpoint at the labels' own resolution: ``python -m train.evaluate``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import torch
import tyro
from PIL import Image
from torch.nn.functional import cross_entropy

from runtime import cli, files
from runtime.accuracy.metrics import BoundaryF, ConfusionMatrix, Scores, scores
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError, one_line
from runtime.outputs import sheet
from runtime.outputs.checks import check_outputs
from train.checkpoint import Checkpoint, find_checkpoint
from train.datasets import default_data
from train.datasets.index import Index, Item
from train.datasets.matching import matching_index
from train.device import exact_fp32
from train.models import DeepLab
from train.models.deeplab import Segmentation
from train.models.hed import upsample
from train.record import pictures, tables


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
    sheet: Path | None = None
    """Write the worst and the median images with labels and errors to this PNG."""
    matrix: Path | None = None
    """Write the confusion matrix to this PNG."""
    json: Path | None = None
    """Write the scores to this file."""


@dataclass(frozen=True, kw_only=True)
class Report(Scores):
    """The stable keys of ``--json``.

    confusion: pixels by class (rows) and prediction; miou_by_image: the lowest first.
    """

    images: int
    precision: dict[str, float | None]
    recall: dict[str, float | None]
    confusion: list[list[int]]
    miou_by_image: dict[str, float]


class ImageScore(NamedTuple):
    """An image's name, mIoU over its classes, mean cross-entropy; NaN of one without labels."""

    name: str
    miou: float
    loss: float


@dataclass(frozen=True)
class Evaluation:
    """Scores over a split, in 0..1; boundary F is None if it was not computed.

    by_image: in the split's order.
    """

    confusion: ConfusionMatrix
    boundary: BoundaryF | None
    by_image: tuple[ImageScore, ...]

    @property
    def images(self) -> int:
        """How many were evaluated."""
        return len(self.by_image)

    def worst_first(self) -> list[tuple[str, float]]:
        """Names of the labelled images with their mIoU, the lowest first."""
        known = [(name, miou) for name, miou, _ in self.by_image if not np.isnan(miou)]
        return sorted(known, key=lambda row: row[1])

    def report(self) -> Report:
        """For ``--json``."""
        confusion = self.confusion
        return Report(
            **vars(scores(confusion, self.boundary)),
            images=self.images,
            precision=confusion.by_name(confusion.precision()),
            recall=confusion.by_name(confusion.recall()),
            confusion=confusion.counts.tolist(),
            miou_by_image=dict(self.worst_first()),
        )


class Answer(NamedTuple):
    """image: (H, W, 3) uint8 RGB; target, labels: (H, W) uint8; edges: (h, w) float32 or None;
    loss: mean cross-entropy of the labelled pixels, NaN without any."""

    item: Item
    image: np.ndarray
    target: np.ndarray
    labels: np.ndarray
    edges: np.ndarray | None
    loss: float


def predict(
    model: DeepLab, image: np.ndarray, size: tuple[int, int], out_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W, 3) uint8 RGB → (h, w) uint8 labels of ``out_size``, and the edge map at ``size``.

    The same steps as the exported graph: bilinear to the network's ``size``, network, logits
    bilinear to ``out_size``, argmax. Edges are (H, W) float32 in 0..1, None without HED.
    """
    return _answered(*_scores(model, image, size, out_size), size)


def _answered(
    logits: torch.Tensor, edges: list[torch.Tensor] | None, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    labels = logits.argmax(1)[0].to(torch.uint8).cpu().numpy()
    if edges is None:
        return labels, None
    return labels, upsample(edges[-1].float(), size).sigmoid()[0, 0].cpu().numpy()


@torch.inference_mode()
def _scores(
    model: DeepLab, image: np.ndarray, size: tuple[int, int], out_size: tuple[int, int]
) -> Segmentation:
    parameter = next(model.parameters())
    x = torch.from_numpy(image.copy()).to(parameter.device).permute(2, 0, 1)[None].float() / 255
    x = upsample(x, size).to(memory_format=torch.channels_last)
    return model(x, out_size)


def evaluate(
    model: DeepLab, index: Index, size: tuple[int, int], boundaries: bool = True
) -> Evaluation:
    """Run ``model`` over ``index``; labels are compared at their own resolution."""
    return score(predictions(model, index, size, index.items), index.classes, boundaries)


def score(answers: Iterable[Answer], classes: ClassSet, boundaries: bool = True) -> Evaluation:
    """Add up answers as they come."""
    confusion = ConfusionMatrix(classes)
    boundary = BoundaryF(classes) if boundaries else None
    images = []
    for answer in answers:
        own = ConfusionMatrix(classes)
        own.update(answer.target, answer.labels)
        confusion.counts += own.counts
        if boundary is not None:
            boundary.update(answer.target, answer.labels)
        images.append(ImageScore(answer.item.name, own.miou(), answer.loss))
    return Evaluation(confusion, boundary, tuple(images))


def predictions(
    model: DeepLab, index: Index, size: tuple[int, int], items: Iterable[Item]
) -> Iterator[Answer]:
    """The model's answers to ``items`` of ``index``, one at a time."""
    for item in items:
        image, target = index.read(item)
        logits, edges = _scores(model, image, size, (target.shape[0], target.shape[1]))
        truth = torch.from_numpy(target.astype(np.int64))[None].to(logits.device)
        loss = cross_entropy(logits.float(), truth, ignore_index=IGNORE)
        yield Answer(item, image, target, *_answered(logits, edges, size), float(loss))


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
    """The split to measure ``checkpoint`` on; see ``matching_index``."""
    return matching_index(
        data or checkpoint.config.data or default_data(), checkpoint.classes, split
    )


def main(config: Evaluate) -> None:
    """Evaluate a run and print the table."""
    path = find_checkpoint(config.run)
    evaluation = evaluate_run(replace(config, run=path))
    where = f" on {config.data}" if config.data else ""
    _show(evaluation, f"{path}{where} ({config.split})")


def evaluate_run(config: Evaluate) -> Evaluation:
    """Measure a run as the command does, saving what ``config`` asks for. Raises HedgeError."""
    path = find_checkpoint(config.run)
    checkpoint = Checkpoint.load(path)
    index = evaluation_index(checkpoint, config.data, config.split)
    read = [path, index.root, *(p for item in index.items for p in (item.image, item.label))]
    outputs = [path for path in (config.json, config.sheet, config.matrix) if path]
    check_outputs(outputs, config.save, read, force=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(checkpoint).to(device)
    items = cli.track(index.items, f"evaluating {path}")
    size = config.size or checkpoint.size
    answers = predictions(model, index, size, items)
    if config.save:
        answers = _saved(answers, index.classes, config.save)
    with exact_fp32():
        evaluation = score(answers, index.classes)
        if config.sheet:
            miou = np.array([image.miou for image in evaluation.by_image])
            sheet.save(worst_and_median(model, index, size, miou), config.sheet)
    if config.matrix:
        pictures.matrix(evaluation.confusion, config.matrix)
    if config.json:
        content = msgspec.json.encode(evaluation.report())
        files.write_bytes(config.json, msgspec.json.format(content))
    return evaluation


def worst_and_median(
    model: DeepLab, index: Index, size: tuple[int, int], miou: np.ndarray
) -> np.ndarray:
    """(H, W, 3) uint8 BGR: the images with the lowest mIoU and some in the middle, a row each.

    miou: (images,) of each image of ``index``; NaN of one without labels.
    """
    chosen = pictures.chosen(miou)
    answers = predictions(model, index, size, [index.items[place] for place in chosen])
    rows = [
        (f"{kind}, {answer.item.name}, mIoU {100 * miou[place]:.1f} %",
         answer.image, answer.target, answer.labels)
        for (place, kind), answer in zip(chosen.items(), answers, strict=True)
    ]  # fmt: skip
    return pictures.of_validation(rows, index.classes)


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


def _show(evaluation: Evaluation, title: str) -> None:
    confusion, boundary = evaluation.confusion, evaluation.boundary
    assert boundary is not None
    columns = {
        "IoU %": confusion.iou(),
        "precision %": confusion.precision(),
        "recall %": confusion.recall(),
        "boundary F %": boundary.f(),
    }
    means = [confusion.miou(), *map(tables.mean, list(columns.values())[1:3]), boundary.mean()]
    table = tables.by_class(
        title, {name: confusion.by_name(values) for name, values in columns.items()}, means
    )
    table.caption = (
        f"{evaluation.images} images, pixel accuracy "
        f"{tables.percent(confusion.pixel_accuracy())} %, "
        f"boundary tolerance {boundary.tolerance} px"
    )
    cli.out.print(table)
    if pairs := confusion.confusions():
        cli.out.print(tables.confusions(pairs))
    cli.out.print(tables.worst(evaluation.worst_first()))


if __name__ == "__main__":
    cli.run(Evaluate, main, "python -m train.evaluate")
