"""A split in parts, each a file of counts: evaluation on many machines, exact as on one."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from runtime import cli, files
from runtime.accuracy.metrics import BoundaryF, ConfusionMatrix, known
from runtime.errors import HedgeError, IncompleteError
from runtime.fleet.cluster import RayPool, Worker
from runtime.fleet.driver import Driver, Pool
from runtime.fleet.plan import Span
from runtime.fleet.run import shown, sweep
from runtime.fleet.shards import SpanRow, row_of
from runtime.outputs.checks import writing
from train.checkpoint import Checkpoint
from train.datasets import open_index
from train.datasets.index import Index
from train.device import exact_fp32
from train.evaluation.scoring import Evaluation, ImageScore, load_model, predictions, score

IMAGES = 64  # of a part
Entered = Callable[[], AbstractContextManager[Pool]]


@dataclass(frozen=True)
class Job:
    """What is asked of every part; paths are absolute, for each worker has a folder of its own.

    run: the checkpoint; size: (H, W) of the network's input; out: folder of the parts' files;
    images: of a part; backend: no engine but PyTorch, on every GPU that there is.
    """

    run: Path
    data: Path
    split: str
    size: tuple[int, int]
    out: Path
    images: int = IMAGES
    backend: str = "torch"
    device: str = ""

    def path(self, id: str) -> Path:
        """Of a part's file."""
        return self.out / f"{id}.json"


@dataclass(frozen=True)
class Counts:
    """A part's file: (C, C) and (C, 4) counts, and name, mIoU and loss of each image, None: NaN."""

    confusion: list[list[int]]
    boundary: list[list[int]]
    images: list[tuple[str, float | None, float | None]]


class PartWorker(Worker):
    """An actor with the network, loaded once, and one part after another."""

    _job: Job

    def _open(self) -> None:
        job, device = self._job, "cuda" if torch.cuda.is_available() else "cpu"
        self._model = load_model(Checkpoint.load(job.run)).to(device)
        self._index = open_index(job.data, job.split)
        self._key = files.sha256(job.run)

    def _do(self, span: Span, attempt: int) -> SpanRow:
        job, index, row = self._job, self._index, row_of(span, attempt)
        row.host, row.frames = platform.node(), span.frames or 0
        path = job.path(span.id)
        if path.exists():
            return row
        if _id(self._key, job, index, span.first) != span.id:
            raise HedgeError(f"{index.root}: not the images that the command saw; start again")
        items = index.items[span.first : span.first + job.images]
        with exact_fp32():
            found = score(predictions(self._model, index, job.size, items), index.classes)
        assert found.boundary is not None
        counts = Counts(
            found.confusion.counts.tolist(), found.boundary.counts.tolist(),
            [(name, known(miou), known(loss)) for name, miou, loss in found.by_image],
        )  # fmt: skip
        with writing(path), files.atomic_path(path, first_wins=True) as temporary:
            temporary.write_bytes(msgspec.json.encode(counts))
        return row


def evaluate_parts(job: Job, index: Index, pool: Entered) -> Evaluation:
    """Evaluate what has no file yet, and add up all files in the split's order.

    pool: enters workers of ``job``, see ``on_ray``. IncompleteError names a part that failed.
    """
    with writing(job.out):
        job.out.mkdir(parents=True, exist_ok=True)
    key = files.sha256(job.run)
    spans = [
        Span(
            _id(key, job, index, first), str(index.root), first, end, first=first,
            frames=end - first,
        )
        for first in range(0, len(index), job.images)
        for end in [min(first + job.images, len(index))]
    ]  # fmt: skip
    missing = [span for span in spans if not _whole(job.path(span.id))]
    if len(missing) < len(spans):
        cli.say(f"{len(spans) - len(missing)} of {len(spans)} parts were done before")
    if missing:
        _drive(job, missing, pool)
    return _sum([_read(job.path(span.id)) for span in spans], index)


def on_ray(job: Job, cores: int, address: str | None) -> Callable[[], RayPool]:
    """Workers of a Ray cluster, or of this machine alone."""
    return lambda: RayPool(job, cores, address, PartWorker, at_once=1)


def _drive(job: Job, missing: Sequence[Span], pool: Entered) -> None:
    with pool() as workers, shown(len(missing)) as told:
        drive = Driver(workers, lambda span: job.path(span.id).exists(), told)
        progress = drive.run(missing)
    sweep(job.out)
    for line in progress.warnings:
        cli.warn(line)
    if progress.failures:
        row = progress.failures[0]
        raise IncompleteError(
            f"{len(progress.failures)} of {len(missing)} parts failed (images {row.start_pts} to "
            f"{row.end_pts} of {row.video}: {row.error}); the rest is kept: start again to try "
            "them again"
        )


def _id(key: str, job: Job, index: Index, first: int) -> str:
    """Of a part: what its counts depend on. Images and labels count by size and time of change."""
    items = index.items[first : first + job.images]
    facts = [(s.st_size, s.st_mtime_ns) for i in items for s in (i.image.stat(), i.label.stat())]
    names = [item.name for item in items]
    asked = (key, job.size, index.split, index.layout, index.classes.names, first, names, facts)
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:32]


def _whole(path: Path) -> bool:
    """Whether a part is done; a damaged file is removed, to be done again."""
    try:
        return path.is_file() and bool(_read(path))
    except HedgeError:
        path.unlink(missing_ok=True)
        return False


def _read(path: Path) -> Counts:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Counts)
    except (OSError, msgspec.MsgspecError) as error:
        raise HedgeError(f"{path}: unreadable ({error}); remove it and start again") from error


def _sum(parts: Sequence[Counts], index: Index) -> Evaluation:
    confusion, boundary = ConfusionMatrix(index.classes), BoundaryF(index.classes)
    images = []
    for part in parts:
        confusion.counts += np.array(part.confusion, np.int64)
        boundary.counts += np.array(part.boundary, np.int64)
        images += [
            ImageScore(name, _number(miou), _number(loss)) for name, miou, loss in part.images
        ]
    return Evaluation(confusion, boundary, tuple(images))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
