"""Accuracy of a checkpoint at the labels' own resolution: ``python -m train.evaluate``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runtime import cli
from train import LIBRARIES
from train.evaluation.config import Evaluate
from train.record import tables

if TYPE_CHECKING:
    from train.evaluation.scoring import Evaluation


def main(config: Evaluate) -> None:
    """Evaluate a run and print the table."""
    cli.require(LIBRARIES, "train")
    # Not at the start: --help and a wrong option wait for no PyTorch.
    from train.checkpoint import find_checkpoint
    from train.evaluation.run import evaluate_run

    path = find_checkpoint(config.run)
    evaluation = evaluate_run(replace(config, run=path))
    where = f" on {config.data}" if config.data else ""
    _show(evaluation, f"{path}{where} ({config.split})")


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
