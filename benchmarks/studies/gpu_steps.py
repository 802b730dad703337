"""What ``python -m benchmarks.gpu`` asks of a machine: steps as rows of data, the dearest first.

Each step runs in a process of its own and fills its figures as they come; a LostError or HedgeError
says why it has no more.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Literal, get_args

import numpy as np

from benchmarks.cells import process
from benchmarks.cells.engine import Figure, InFlight, Opened
from benchmarks.cells.process import START, Child, LostError
from benchmarks.cells.worker import Spec, Thing, Trained
from benchmarks.results import Stages
from benchmarks.run.frames import drawn_drive
from benchmarks.run.plan import COMPILED, NAIVE, PEERS
from benchmarks.studies.case import Case
from export.config import Precision
from runtime import cli, machine
from runtime.backends.registry import BACKENDS, installed_backends
from runtime.bundle.manifest import FILE_NAME
from runtime.doctor import decoding, trial
from runtime.errors import HedgeError
from runtime.interrupt import Closing
from runtime.sources.hardware.decoder import HARDWARE, Decode
from runtime.sources.open import open_source

Kind = Literal["shipped", "decode", "export", "engine", "pipeline", "peer", "training"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Figures = dict[str, float | str]
BACKBONES = ("mobilenet_v2", "resnet50")
NO_GPU = "no NVIDIA GPU here"
VIDEOS = ((720, 1280), (1024, 2048))  # for the first size and for the second


@dataclass(frozen=True)
class Step:
    """A row to be; limit: seconds; run: fills the figures within that many seconds; missing: why
    it cannot run here."""

    kind: Kind
    name: str
    limit: float
    run: Callable[[Figures, float], None]
    missing: str | None = None


@dataclass(frozen=True)
class Place:
    """What all steps share. shipped: the shipped bundle; frames: see ``benchmarks.run.frames``;
    out: a folder for bundles; scratch: one for all else; seconds: of each measurement; batch: of
    a training; video: frames."""

    sizes: Sequence[tuple[int, int]]
    shipped: Path
    frames: Path
    out: Path
    scratch: Path
    threads: int
    seconds: float
    batch: int
    video: int

    def bundle(self, case: Case, precision: Precision) -> Path:
        """Where ``benchmarks.studies.untrained`` puts it."""
        return self.out / f"{case}-{precision}"


class Asked(Closing):
    """A cell's process that has so many seconds for everything."""

    def __init__(self, spec: Spec, seconds: float) -> None:
        self._end = time.perf_counter() + seconds
        self._patience = seconds / START
        self._child = Child(spec, self._patience)
        self.start_s, self.computes = self._child.start_s, self._child.computes

    def ask(self, do: str, kind: type[Thing], **what: object) -> Thing:
        """See ``Child.ask``."""
        left = self._end - time.perf_counter()
        if left <= 0:
            raise LostError(f"its time was over before {do!r}")
        return self._child.ask(do, kind, left - self._patience, **what)

    def close(self) -> None:
        """End the process."""
        self._child.close()


def steps(place: Place) -> Iterator[Step]:
    """All of them, in the order of their importance."""
    ours = list(_ours())
    cases = [[Case(name, "dlse_hed", size) for name in BACKBONES] for size in place.sizes]
    yield from (_shipped(place, backend) for backend in BACKENDS)
    yield Step("decode", "video decoded by hardware", 90, partial(_decode, place))
    for number, row in enumerate(cases):
        for precision in ("int8", "fp16"):
            for case in row:
                yield _export(place, case, precision)
                yield from (_engine(place, case, precision, backend) for backend in ours)
        yield from (_peer(place, case, way) for case in row for way in _peers()[:3])
        yield from (_pipeline(place, row[0], number, backend) for backend in ours)
    yield from _trainings(place, cases[0][-1])
    yield from (_peer(place, case, way) for row in cases for case in row for way in _peers()[3:])


def missing(backend: str) -> str | None:
    """Why a backend cannot run here."""
    row = BACKENDS[backend]
    if not find_spec(row.library):
        return f"{row.library} is not installed"
    if row.device == "cuda" and not machine.gpus():
        return NO_GPU
    if row.device == "cuda" and not find_spec("pycuda"):
        return "pycuda is not installed"
    return None


def _ours() -> Iterator[str]:
    """The backends of the GPU, and in their place one of the CPU where none of them can run."""
    on_gpu = [name for name, row in BACKENDS.items() if row.device == "cuda"]
    yield from on_gpu
    if all(map(missing, on_gpu)):
        yield from [name for name in installed_backends() if name not in on_gpu][:1]


def _peers() -> list[str]:
    """Ways of PyTorch, the most telling first; those of a GPU last what takes longest."""
    if machine.gpus():
        eager, planes, half, graph, *compiled = PEERS["cuda"]
        return [eager, half, graph, *compiled, planes]
    return [way for way in PEERS["cpu"] if way not in (NAIVE, *COMPILED)]


def _shipped(place: Place, backend: str) -> Step:
    run = partial(_try_shipped, place, backend)
    return Step("shipped", f"shipped bundle, {backend}", _limit(backend), run, missing(backend))


def _try_shipped(place: Place, backend: str, found: Figures, limit: float) -> None:
    copy = place.out / place.shipped.name  # engines are built into a bundle
    if not copy.exists():
        shutil.copytree(place.shipped, copy, ignore=shutil.ignore_patterns("engines"))
    known, trials = trial.run(copy, backend, place.threads, place.scratch, limit)
    for one in trials:
        named = {"ms": one.ms, "golden": one.agreement, "int8": one.int8}
        found |= {f"{one.device} {key}": value for key, value in named.items() if value is not None}
    wrong = [known.error, *(f"{one.device}: {one.error}" for one in trials if one.error)]
    if any(wrong):
        raise HedgeError("; ".join(filter(None, wrong)))


def _decode(place: Place, found: Figures, limit: float) -> None:
    video = _drawn(place, VIDEOS[0])
    tried = decoding.run(place.scratch)
    found |= {f"{one.name} levels": one.levels for one in tried if one.levels is not None}
    names: list[Decode] = [
        "cpu",
        *(name for name, one in zip(HARDWARE, tried, strict=True) if one.works),
    ]
    for name in names:
        with open_source(str(video), decode=name) as source:
            start = time.perf_counter()
            count = sum(1 for _ in source)
            found[f"{name} fps"] = count / (time.perf_counter() - start)
    found |= {one.name: one.error for one in tried if one.error}


def _drawn(place: Place, size: tuple[int, int]) -> Path:
    height, width = size if place.seconds > 1 else (90, 160)
    name = f"street-{width}x{height}-{place.video}.mp4"
    return drawn_drive(place.out / name, place.video, (height, width))


def _export(place: Place, case: Case, precision: Precision) -> Step:
    run = partial(_write_bundle, place, case, precision)
    return Step("export", f"{case} {precision}, export", 240, run)


def _write_bundle(
    place: Place, case: Case, precision: Precision, found: Figures, limit: float
) -> None:
    bundle = place.bundle(case, precision)
    if not (bundle / FILE_NAME).is_file():
        arguments = (_word(case), precision, str(place.out))
        command = cli.module_command("benchmarks.studies.untrained", *arguments)
        process.run(command, place.scratch / "export.txt", limit)
    files = [path for path in bundle.rglob("*") if path.is_file()]
    found["mb"] = sum(path.stat().st_size for path in files) / 1e6


def _engine(place: Place, case: Case, precision: Precision, backend: str) -> Step:
    run = partial(_time_engine, place, case, precision, backend)
    name = f"{case} {precision}, {backend}"
    return Step("engine", name, _limit(backend), run, missing(backend))


def _time_engine(
    place: Place, case: Case, precision: Precision, backend: str, found: Figures, limit: float
) -> None:
    spec = _spec(place, "engine", place.bundle(case, precision), backend)
    with Asked(spec, limit) as cell:
        found |= {"computes": cell.computes, "start_s": cell.start_s}  # with building it
        share = cell.ask("golden", Figure).value
        found |= {} if share is None else {"golden": share}
        cell.ask("warm_up", type(None))
        found |= _percentiles(cell.ask("sustained", list[float], seconds=place.seconds), "")
        flown = cell.ask("in_flight", InFlight, batches=2, seconds=place.seconds)
        found |= {} if flown.fps is None else {f"fps_{flown.in_flight}_in_flight": flown.fps}
        opened = cell.ask("opened", Opened, times=10 if place.seconds > 1 else 2)
        found["open_s"] = opened.seconds
        found |= {} if opened.left_mb is None else {"left_mb": opened.left_mb}
        if cell.ask("without_graphs", bool):
            samples = cell.ask("sustained", list[float], seconds=place.seconds)
            found |= _percentiles(samples, "_no_graph")


def _pipeline(place: Place, case: Case, number: int, backend: str) -> Step:
    height, width = VIDEOS[number] if place.seconds > 1 else (90, 160)
    run = partial(_stream, place, case, (height, width), backend)
    name = f"{case} int8, {backend}, video of {width}×{height}"
    return Step("pipeline", name, 90, run, missing(backend))


def _stream(
    place: Place, case: Case, size: tuple[int, int], backend: str, found: Figures, limit: float
) -> None:
    end = time.perf_counter() + limit
    video = _drawn(place, size)
    spec = _spec(place, "engine", place.bundle(case, "int8"), backend)
    with Asked(spec, max(1.0, end - time.perf_counter())) as cell:
        cell.ask("warm_up", type(None))
        asked = {"cell": str(case), "video": str(video.absolute()), "count": place.video}
        stages = cell.ask("stages", Stages, **asked)
    names = {"cell", "video", "fps", "fps_engine"}
    found |= {f"{key}_ms": ms for key, ms in asdict(stages).items() if key not in names}
    found |= {"fps": stages.fps, "fps_engine": stages.fps_engine}
    found["of_engine"] = stages.fps / stages.fps_engine


def _peer(place: Place, case: Case, way: str) -> Step:
    run = partial(_time_peer, place, case, way)
    return Step("peer", f"{case}, {way}", 120 if way in COMPILED else 60, run)


def _time_peer(place: Place, case: Case, way: str, found: Figures, limit: float) -> None:
    weights = (place.out / f"{case}.pt",)
    spec = _spec(place, "pytorch", place.bundle(case, "int8"), "pytorch", way, weights)
    with Asked(spec, limit) as cell:
        found |= {"computes": cell.computes, "start_s": cell.start_s}
        cell.ask("warm_up", type(None))
        found |= _percentiles(cell.ask("sustained", list[float], seconds=place.seconds), "")


def _trainings(place: Place, case: Case) -> Iterator[Step]:
    gpus = len(machine.gpus())
    rows = [("bf16", 1, None if gpus else NO_GPU), ("fp16", 1, None if gpus else NO_GPU)]
    rows += [] if gpus else [("fp32", 1, None)]
    rows.append(("bf16", 2, None if gpus > 1 else f"{gpus} NVIDIA GPUs here, two processes need 2"))
    for precision, count, trouble in rows:
        run = partial(_train, place, case, precision, count)
        processes = "" if count == 1 else f", {count} processes"
        yield Step("training", f"{case}, training {precision}{processes}", 120, run, trouble)


def _train(
    place: Place, case: Case, precision: str, count: int, found: Figures, limit: float
) -> None:
    way = f"{_word(case)} {precision} {place.batch * count} {count}"
    with Asked(_spec(place, "training", place.out, "pytorch", way), limit) as cell:
        seconds = min(30 * place.seconds, limit / 2)
        found |= asdict(cell.ask("train", Trained, seconds=seconds))


def _spec(
    place: Place, module: str, bundle: Path, backend: str, way: str = "",
    weights: tuple[Path, ...] = (),
) -> Spec:  # fmt: skip
    name = f"benchmarks.cells.{module}"
    return Spec(
        name, bundle, backend, place.threads, place.frames, place.scratch / module, way, weights
    )


def _percentiles(samples: Sequence[float], suffix: str) -> Figures:
    p95 = float(np.percentile(samples, 95))
    return {f"p50_ms{suffix}": median(samples), f"p95_ms{suffix}": p95}


def _limit(backend: str) -> float:
    """TensorRT builds an engine for minutes, TensorRT-RTX for seconds."""
    return 300 if backend == "tensorrt" else 120


def _word(case: Case) -> str:
    return f"{case.backbone}:{case.variant}:{case.size[0]}x{case.size[1]}"
