"""ODS and OIS of edge networks and edge maps on BSDS500: ``python -m train.hed.evaluate``."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import msgspec
import numpy as np
import tyro
from PIL import Image
from rich.table import Table

from runtime import cli, files
from runtime.errors import HedgeError
from runtime.numbers import check_numbers
from runtime.outputs.checks import check_outputs
from runtime.outputs.json_files import write_report
from train import LIBRARIES
from train.datasets import bsds
from train.datasets.bsds import Drawing
from train.hed import metrics
from train.hed.metrics import Counts, Score

Maps = Callable[[Drawing], np.ndarray]  # the (H, W) uint8 edge map of its image


@dataclass(frozen=True)
class EvaluateEdges:
    """Score edges against annotated boundaries: F at the best threshold of the data set (ODS) and
    of each image (OIS).

    Examples:

    python -m train.hed.evaluate runs/hed-fpn --data data/bsds500

    python -m train.hed.evaluate maps/ --data data/bsds500   (PNGs of any other detector)
    """

    source: Annotated[Path, tyro.conf.Positional]
    """Run of train.hed, a file of edge weights, or a folder with a gray PNG for each image."""
    data: Path
    """BSDS500's data folder."""
    split: str = "val"
    """Split of it."""
    thresholds: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = metrics.THRESHOLDS
    """Number of evenly spaced thresholds."""
    workers: Annotated[int, msgspec.Meta(ge=1, le=1024)] = os.cpu_count() or 1
    """Processes that match pixels."""
    save: Path | None = None
    """Write image | annotations | edges | thin edges side by side to this folder."""
    json: Path | None = None
    """Write the scores to this file."""

    def __post_init__(self) -> None:
        check_numbers(self)


def main(config: EvaluateEdges) -> None:
    """Score all images of the split and print the table."""
    cli.require(LIBRARIES, "train")
    pairs, maps = bsds.pairs(config.data, config.split), _maps(config)
    written = [config.json] if config.json else []
    check_outputs(written, config.save, [config.source, config.data], force=True)
    drawings = (pair.read() for pair in pairs)
    jobs = ((drawing, maps(drawing)) for drawing in drawings)
    with _mapper(config.workers) as spread:
        job = partial(score_image, count=config.thresholds, save=config.save)
        answers = list(cli.track(spread(job, jobs), "matching", total=len(pairs), transient=True))
    if not any(network.predicted.any() for network, _ in answers):
        raise HedgeError(
            f"{config.source}: no map has a pixel above the lowest threshold; an edge is up to 255"
        )
    found = metrics.score(network for network, _ in answers)
    humans = [human for _, human in answers if human.drawn.any()]  # one alone has no others
    people = metrics.score(humans) if humans else None
    cli.out.print(_table(config, len(pairs), found, people))
    if config.json:
        report = {**asdict(found), "people": people and people.ods, "images": len(pairs)}
        report |= {"split": config.split, "tolerance": metrics.TOLERANCE}
        write_report(config.json, report)


def score_image(
    job: tuple[Drawing, np.ndarray], count: int, save: Path | None
) -> tuple[Counts, ...]:
    """Counts of an image's edge map and of the annotators against each other; saves its picture."""
    drawing, edges = job
    thin = metrics.thin(edges.astype(np.float32) / 255)
    if save:
        gray = [drawing.agreement * 255, edges, thin * 255]
        panels = [
            drawing.image,
            *(cv2.cvtColor(g.astype(np.uint8), cv2.COLOR_GRAY2RGB) for g in gray),
        ]
        with files.atomic_path(save / f"{drawing.file.stem}.png") as temporary:
            Image.fromarray(np.hstack(panels)).save(temporary)
    return metrics.compare(thin, drawing.boundaries, count), metrics.people(drawing.boundaries)


def _maps(config: EvaluateEdges) -> Maps:
    """Edge maps of a run, of weights, or of a folder."""
    # Not at the start: --help and a wrong option wait for no PyTorch.
    from train.models.hed import edge_file

    source = config.source
    if (weights := edge_file(source)).is_file():
        return _network(weights)
    if not source.exists():
        raise HedgeError(f"{source}: no such run, weights or folder; python -m train.hed makes one")
    return lambda drawing: drawing.edges_in(source)


def _network(weights: Path) -> Maps:
    from train.hed.maps import edge_map, network

    hed = network(None, weights)
    return lambda drawing: edge_map(hed, drawing.image)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """``map`` over processes, or the plain one; spawned, since forks do not survive torch."""
    if workers == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield pool.map


def _table(config: EvaluateEdges, images: int, found: Score, people: Score | None) -> Table:
    title = f"{config.source} on {config.data} ({config.split}, {images} images)"
    names = ("ODS", "OIS", "precision", "recall", "threshold")
    table = Table("", *names, title=title)
    own = (found.ods, found.ois, found.precision, found.recall, found.threshold)
    table.add_row("edges", *(f"{value:.3f}" for value in own))
    caption = f"tolerance {metrics.TOLERANCE} of the diagonal, {config.thresholds} thresholds"
    if people:
        precision, recall = f"{people.precision:.3f}", f"{people.recall:.3f}"
        table.add_row("people", f"{people.ods:.3f}", "–", precision, recall, "–")
        caption += "; people: each against the others"
    table.caption = caption
    return table


if __name__ == "__main__":
    cli.run(EvaluateEdges, main, "python -m train.hed.evaluate")
