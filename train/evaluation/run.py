"""A run is evaluated: as one pass or in parts, with the pictures and files that are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from runtime import cli, files
from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError
from runtime.fleet.__main__ import LIBRARIES
from runtime.outputs import sheet
from runtime.outputs.checks import check_outputs
from runtime.outputs.json_files import write_report
from train.checkpoint import Checkpoint, find_checkpoint
from train.datasets import default_data
from train.datasets.index import Index
from train.device import exact_fp32
from train.evaluation.config import Evaluate
from train.evaluation.scoring import (
    Answer,
    Evaluation,
    evaluation_index,
    load_model,
    predictions,
    score,
)
from train.models import DeepLab
from train.record import pictures


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
    model.require(size)
    answers = predictions(model, index, size, items)
    if config.save:
        answers = _saved(answers, index.classes, config.save)
    with exact_fp32():
        evaluation = (
            _in_parts(config, path, checkpoint, index, config.fleet)
            if config.fleet
            else score(answers, index.classes)
        )
        if config.sheet:
            miou = np.array([image.miou for image in evaluation.by_image])
            sheet.save(worst_and_median(model, index, size, miou), config.sheet)
    if config.matrix:
        pictures.matrix(evaluation.confusion, config.matrix)
    if config.json:
        write_report(config.json, evaluation.report())
    return evaluation


def _in_parts(
    config: Evaluate, path: Path, checkpoint: Checkpoint, index: Index, out: Path
) -> Evaluation:
    if config.save:
        raise HedgeError("--save goes without --fleet: parts keep counts, not pictures")
    cli.require(LIBRARIES, "fleet")
    from runtime.fleet.parts import on_ray  # its libraries are an extra
    from train.evaluation.parts import Job, PartWorker, evaluate_parts

    data = config.data or checkpoint.config.data or default_data()
    job = Job(
        path.absolute(), data.absolute(), config.split, config.size or checkpoint.size,
        out.absolute(),
    )  # fmt: skip
    return evaluate_parts(job, index, on_ray(job, PartWorker, config.cores, config.address))


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
