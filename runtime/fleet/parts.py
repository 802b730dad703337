"""Images in parts, each a file of counts: on many machines, and exact as on one."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from runtime import cli, files
from runtime.errors import HedgeError, IncompleteError
from runtime.fleet.cluster import RayPool, Task, Worker
from runtime.fleet.driver import Driver, Pool
from runtime.fleet.plan import Span
from runtime.fleet.run import shown, sweep
from runtime.fleet.shards import SpanRow, row_of
from runtime.outputs.checks import writing

Counts = TypeVar("Counts")
Entered = Callable[[], AbstractContextManager[Pool]]


class Job(Task, Protocol):
    """What is asked of every part; paths are absolute, for each worker has a folder of its own."""

    @property
    def out(self) -> Path:
        """Folder of the parts' files, which every machine writes into."""

    @property
    def images(self) -> int:
        """Of a part."""


class PartWorker(Worker, ABC):
    """An actor that counts one part after another, each into a file."""

    _job: Job

    @abstractmethod
    def _id(self, first: int) -> str:
        """Of the part that begins with an image, by the images as they are now."""

    @abstractmethod
    def _count(self, first: int) -> Any:
        """What that part adds up to, in types that msgspec knows, and arrays of int64."""

    def _do(self, span: Span, attempt: int) -> SpanRow:
        row, path = row_of(span, attempt), _path(self._job, span)
        row.host, row.frames = platform.node(), span.frames or 0
        if path.exists():
            return row
        if self._id(span.first) != span.id:
            raise HedgeError(f"{span.video}: not the images that the command saw; start again")
        counts = msgspec.json.encode(self._count(span.first), enc_hook=np.ndarray.tolist)
        with writing(path):
            files.save_sealed(path, counts, first_wins=True)
        return row


def id_of(asked: object, read: Iterable[Path]) -> str:
    """Of a part: ``asked``, what its counts depend on beside files, by size and time of change."""
    facts = [(s.st_size, s.st_mtime_ns) for s in map(Path.stat, read)]
    return files.sha256_of(repr((asked, facts)).encode())[:32]


def counted(
    job: Job, name: str, total: int, id: Callable[[int], str], pool: Entered, kind: type[Counts]
) -> Iterator[Counts]:
    """What each part adds up to, in the images' order; those that have no file are done first.

    name: of the images; total: of them; id: of the part that begins with one; pool: enters workers
    of ``job``, see ``on_ray``. IncompleteError names a part that failed, and the rest is kept.
    """
    with writing(job.out):
        job.out.mkdir(parents=True, exist_ok=True)
    spans = [
        Span(id(first), name, first, end, first=first, frames=end - first)
        for first in range(0, total, job.images)
        for end in [min(first + job.images, total)]
    ]
    missing = [span for span in spans if not _whole(_path(job, span))]
    if len(missing) < len(spans):
        cli.say(f"{len(spans) - len(missing)} of {len(spans)} parts were done before")
    if missing:
        _drive(job, missing, pool)
    return (_read(_path(job, span), kind) for span in spans)


def on_ray(
    job: Job, worker: type[PartWorker], cores: int, address: str | None
) -> Callable[[], RayPool]:
    """Workers of a Ray cluster, or of this machine alone."""
    return lambda: RayPool(job, cores, address, worker, at_once=1)


def _drive(job: Job, missing: Sequence[Span], pool: Entered) -> None:
    with pool() as workers, shown(len(missing)) as told:
        drive = Driver(workers, lambda span: _path(job, span).exists(), told)
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


def _path(job: Job, span: Span) -> Path:
    return job.out / f"{span.id}.counts"


def _whole(path: Path) -> bool:
    """Whether a part is done; a damaged file is removed, to be done again."""
    whole = bool(files.read_sealed(path))
    if not whole:
        path.unlink(missing_ok=True)
    return whole


def _read(path: Path, kind: type[Counts]) -> Counts:
    try:
        return msgspec.json.decode(files.read_sealed(path), type=kind, dec_hook=_array)
    except (OSError, msgspec.MsgspecError) as error:
        raise HedgeError(f"{path}: unreadable ({error}); remove it and start again") from error


def _array(kind: type, value: Any) -> np.ndarray:
    return np.array(value, np.int64)
