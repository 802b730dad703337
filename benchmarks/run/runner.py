"""A whole run: start the cells, probe each once, time them interleaved, then profile the best."""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.cells import process as processes
from benchmarks.cells.process import Child, LostError
from benchmarks.host.machine import busy_s, free_mb, gpu_free_mb, used_s
from benchmarks.results import Stages
from benchmarks.run.frames import Frames
from benchmarks.run.plan import NAIVE, Planned
from benchmarks.run.probes import Pace, probes, score, worst
from benchmarks.run.record import Record, is_program, on_gpu
from benchmarks.run.rounds import LEAST
from runtime import cli
from runtime.backends import trt_cache
from runtime.machine import cores

SPARE_MB = 1000.0  # that are left free beside all processes
OTHERS = 0.1  # cores that other processes may take before it is said
STREAMS = (2, 4)  # batches in flight that are tried, where there are as many threads
EXPORT = 5  # times the patience, for the naive graph
CEILING_S = 60.0
AFTER_S = 10.0  # for the ceilings and the worst frames, once the rounds are over
PIPELINE_FRAME_S = 0.15  # for a frame of the video, three times through the pipeline


@dataclass(frozen=True)
class Settings:
    """How a run measures.

    threads: of each engine, 0 leaves them to the library; seconds: to spend; patience: seconds that
    an answer may take; video: to take the pipeline apart on; rounds: at least, of every cell;
    on_cpu: whether the CPU's ceilings mean anything to our engines.
    """

    threads: int
    seconds: float
    pace: Pace
    patience: float
    video: Path | None = None
    quick: bool = False
    rounds: int = LEAST
    on_cpu: bool = True


@dataclass(frozen=True)
class Run:
    """Measures into ``record``; scratch: a folder that outlives the results; tell: takes a line of
    progress."""

    record: Record
    frames: Frames
    settings: Settings
    scratch: Path
    tell: Callable[[str], None]
    _told: set[str] = field(default_factory=set, init=False)

    def measure(self) -> None:
        """Everything into the record, in about the settings' time; what fails costs its cell."""
        for planned in self.record.planned:
            if planned.spec is None:
                self._lose(planned, str(planned.cell.error))
        for name, manifest in {p.model.name: p.model.manifest for p in self.record.planned}.items():
            if why := self.frames.misfit(manifest):
                self.record.note(f"{name}: mIoU not measured: {why}")
        self._measure_ceilings()
        waiting = deque(planned for planned in self.record.planned if planned.spec is not None)
        while waiting:
            with ExitStack() as stack:
                group = self._start_group(waiting, stack)
                alive = {p.cell.name: child for p, child in group if self._probe(p, child)}
                share = len(group) / max(1, len(group) + len(waiting))
                left = self.settings.seconds - self._reserve() - self.record.seconds
                with self._watching_others(list(alive.values())):
                    self.record.rounds.run(alive, left * share, self.tell)
            if waiting:
                self.record.note(
                    f"memory is short: {len(group)} cells were timed in turn, then others; times "
                    "of different groups do not share the machine's drift"
                )
        self._measure_ceilings()
        self._picture_worst()
        self._take_pipelines_apart()

    @contextmanager
    def _watching_others(self, children: Sequence[Child]) -> Iterator[None]:
        """Record how many cores other processes use meanwhile: no interval shows it."""

        def others() -> float:
            ours = used_s(os.getpid()) + sum(child.used_s() for child in children)
            return busy_s() - ours

        before, start = others(), time.perf_counter()
        try:
            yield
        finally:  # a run that is interrupted claims no more than others
            share = (others() - before) / max(time.perf_counter() - start, 1e-9)
            self.record.others = max(share, self.record.others)
            if share > OTHERS:
                self.record.note(
                    f"other processes took {share:.2f} of {cores()} cores while cells were timed: "
                    "times are longer than on an idle machine"
                )

    def _start_group(
        self, waiting: deque[Planned], stack: ExitStack
    ) -> list[tuple[Planned, Child]]:
        """Start cells until all run or memory is short; a failure is an error in the row."""
        group: list[tuple[Planned, Child]] = []
        while waiting and (not group or self._has_room(group, waiting[0])):
            planned, before = waiting.popleft(), gpu_free_mb()
            self.tell(f"starting {planned.cell.name}")
            try:
                child = stack.enter_context(Child(self._spec(planned), self.settings.patience))
                child.ask("warm_up", type(None))
            except LostError as error:
                self._lose(planned, str(error))
            else:
                group.append((planned, child))
                self.record.change(planned, **self._first_facts(planned, child))
                if on_gpu(planned.cell) and before and (after := gpu_free_mb()):
                    self.record.change(planned, gpu_mb=max(0.0, before - after))
        return group

    def _spec(self, planned: Planned) -> processes.Spec:
        """What the child loads; the graph of the naive ONNX Runtime is written first."""
        spec = planned.spec
        assert spec is not None, "cells that cannot run are not started"
        if planned.cell.way != NAIVE:
            return spec
        graph = self.scratch / f"{spec.scratch.name}.onnx"
        files = map(str, (spec.bundle, graph, *spec.weights))
        command = cli.module_command("benchmarks.cells.pytorch", *files)
        processes.run(command, graph.with_suffix(".txt"), EXPORT * self.settings.patience)
        return replace(spec, weights=(graph,))

    def _has_room(self, group: Sequence[tuple[Planned, Child]], coming: Planned) -> bool:
        """Whether another cell as large as the largest fits, on the GPU too where it goes there."""
        largest = max(child.peak_mb() or 0.0 for _, child in group)
        taken = max(self.record.cell(planned).gpu_mb or 0.0 for planned, _ in group)
        free = gpu_free_mb() if on_gpu(coming.cell) else None
        return free_mb() > SPARE_MB + largest and (free is None or free > SPARE_MB + taken)

    def _first_facts(self, planned: Planned, child: Child) -> dict[str, Any]:
        cell = planned.cell
        computes = child.computes or self.record.arithmetic(cell)
        if is_program(cell):  # whose own process is another one for each sample
            return {"computes": computes}
        built = trt_cache.built(planned.model.path, cell.backend) if on_gpu(cell) else []
        return {
            "computes": computes,
            "start_s": child.start_s,
            "peak_mb": child.peak_mb(),
            "engine_mb": built[0].stat().st_size / 1e6 if built else None,
        }

    def _probe(self, planned: Planned, child: Child) -> bool:
        """Measure what is measured once; False where that has cost the cell."""
        if planned.cell.kind == "bare":
            return True  # what it answers, and how it is fed, is our engine's
        name, threads = planned.cell.name, self.settings.threads or cores()
        self.tell(f"probing {name}")
        streams = tuple(number for number in STREAMS if number <= max(2, threads))
        try:
            for facts in probes(child, planned, self.settings.pace, streams):
                self.record.change(planned, **facts)
            if self.frames.scorable(planned.model.manifest):
                said = f"{name}: frame"
                accuracy, mious = score(child, self.frames, lambda n: self.tell(f"{said} {n}"))
                self.record.change(planned, accuracy=accuracy)
                self.record.mious[name] = mious
        except LostError as error:
            self._lose(planned, str(error))
            return False
        return True

    def _lose(self, planned: Planned, error: str) -> None:
        """Record why a cell is not measured, and say it now: the report is minutes away."""
        if error not in self._told:
            cli.warn(f"{planned.cell.name}: not measured: {error}")
        self._told.add(error)
        self.record.change(planned, error=error)

    def _measure_ceilings(self) -> None:
        """At both ends of the run: a ceiling is what the machine reaches when it is left alone."""
        if not (self.settings.pace.busy and self.settings.on_cpu):
            return
        self.tell("measuring what this machine reaches")
        command = cli.module_command("benchmarks.host.ceiling", str(self.settings.threads))
        try:
            done = subprocess.run(command, capture_output=True, timeout=CEILING_S, check=True)
            found = msgspec.json.decode(done.stdout.splitlines()[-1], type=dict[str, float])
        except (subprocess.SubprocessError, IndexError, msgspec.MsgspecError):
            return  # a library that is missing here: shares of a ceiling are not told
        for name, gflops in found.items():
            self.record.ceilings[name] = max(gflops, self.record.ceilings.get(name, 0.0))

    def _reserve(self) -> float:
        """Seconds that are left for what comes after the rounds."""
        pipelines = self.settings.pace.pipelines if self.settings.video else 0
        return AFTER_S + pipelines * self.settings.pace.video * PIPELINE_FRAME_S

    def _picture_worst(self) -> None:
        """Of the INT8 cell with the best mIoU; without INT8, of any."""
        scored = [(p, c, c.accuracy.miou) for p, c in self.record.bundles() if c.accuracy]
        if not scored:
            return
        best, cell, _ = max(scored, key=lambda row: (row[1].precision == "int8", row[2]))
        with self._again(best, "drawing the worst frames of") as child:
            mious = self.record.mious[cell.name]
            self.record.worst = worst(child, best, self.frames, mious, self.scratch)

    def _take_pipelines_apart(self) -> None:
        """Of the fastest cell of each precision, the fastest first."""
        video, pace = self.settings.video, self.settings.pace
        if video is None:
            return
        timed = [(cell.timing.p50, p) for p, cell in self.record.bundles() if cell.timing]
        fastest: dict[str, Planned] = {}
        for _, planned in sorted(timed, key=lambda row: row[0]):
            fastest.setdefault(planned.cell.precision, planned)
        for planned in list(fastest.values())[: pace.pipelines]:
            with self._again(planned, "streaming through") as child:
                asked = {"cell": planned.cell.name, "video": str(video), "count": pace.video}
                found = child.ask("stages", Stages, self.settings.patience, **asked)
                self.record.stages.append(found)

    @contextmanager
    def _again(self, planned: Planned, what: str) -> Iterator[Child]:
        """A cell's process once more; what fails is a note, for the cell was measured."""
        doing = f"{what} {planned.cell.name}"
        self.tell(doing)
        try:
            with Child(self._spec(planned), self.settings.patience) as child:
                yield child
        except LostError as error:
            self.record.note(f"{doing}: {error}")
