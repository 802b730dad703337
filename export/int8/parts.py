"""Calibration in parts, each a file of histograms: on many machines, exact as on one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from export.int8.calibration import Images
from export.int8.ranges import BINS, Histogram, observe
from runtime import files
from runtime.fleet import parts
from runtime.outputs.checks import writing

IMAGES = 32  # of a part


@dataclass(frozen=True)
class Job:
    """What is asked of every part; paths are absolute, for each worker has a folder of its own.

    graph: FP32, in ``out``; size: (H, W) of its frame; threads: of each worker; images:
    of a part; backend: no other engine observes a graph.
    """

    graph: Path
    calibration: Images
    size: tuple[int, int]
    out: Path
    threads: int
    images: int = IMAGES
    backend: str = "onnxruntime"
    device: str = ""

    def part(self, first: int) -> Images:
        """The images of the part that begins with one."""
        return replace(self.calibration, paths=self.calibration.paths[first : first + self.images])


class PartWorker(parts.PartWorker):
    """An actor that runs the observed graph on one part after another."""

    _job: Job

    def _open(self) -> None:
        self._key = files.sha256(self._job.graph)

    def _id(self, first: int) -> str:
        return _id(self._key, self._job, first)

    def _count(self, first: int) -> dict[str, Histogram]:
        job = self._job
        return observe(job.graph, job.part(first).frames(job.size), job.threads)


def job_of(graph: Path, calibration: Images, size: tuple[int, int], out: Path, threads: int) -> Job:
    """The job that observes ``graph``, which is put into ``out``, where every machine finds it."""
    shared = out.absolute() / f"{files.sha256(graph)}.onnx"
    with writing(shared):
        files.write_bytes(shared, graph.read_bytes())
    paths = tuple(path.absolute() for path in calibration.paths)
    return Job(shared, replace(calibration, paths=paths), size, shared.parent, threads)


def observe_parts(job: Job, pool: parts.Entered) -> dict[str, Histogram]:
    """Observe what has no file yet, and add up all files: the histograms that ``observe`` gives.

    pool: enters workers of ``job``. IncompleteError names a part that failed.
    """
    key, images = files.sha256(job.graph), job.calibration
    found = parts.counted(
        job, images.data, len(images.paths), lambda first: _id(key, job, first), pool,
        dict[str, Histogram],
    )  # fmt: skip
    merged: dict[str, Histogram] = {}
    for part in found:
        for name, histogram in part.items():
            merged.setdefault(name, Histogram()).merge(histogram)
    return merged


def _id(key: str, job: Job, first: int) -> str:
    paths = job.part(first).paths
    return parts.id_of((key, job.size, BINS, list(map(str, paths))), paths)
