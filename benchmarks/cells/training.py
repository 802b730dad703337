"""A training as a cell: images a second in bf16, FP16 or FP32, in one process or in several.

``spec.way`` is ``BACKBONE:VARIANT:HEIGHTxWIDTH PRECISION BATCH PROCESSES``, the size that of the
crop. ``python -m benchmarks.cells.training SPEC SECONDS`` is one of several processes.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import torch

from benchmarks.cells.worker import Spec, Trained, answers_only, from_json, to_json
from benchmarks.studies.case import Case
from benchmarks.studies.untrained import streets
from runtime import cli
from runtime.errors import HedgeError
from runtime.machine import cores
from train.config import TrainConfig
from train.datasets import open_index
from train.loop.distributed import world
from train.loop.task import Step
from train.loop.trainer import Trainer
from train.segmentation import SegmentationTask

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}
_REPEATS = 10_000  # draws of an image in an epoch, which is so longer than any measurement


class Training:
    """Trains when it is asked to; see ``benchmarks.cells.worker.Served``."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._case, self._precision, self._batch, self._processes = _parsed(spec.way)

    def ready(self) -> str:
        """The arithmetic."""
        return self._precision

    def train(self, seconds: float) -> Trained | None:
        """Train for so long."""
        if self._processes == 1:
            return self.alone(seconds)
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python",
            f"--nproc-per-node={self._processes}",
            *cli.module_command(
                "benchmarks.cells.training", to_json(self._spec).decode(), str(seconds)
            ),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not answers:
            raise HedgeError(f"{self._processes} processes end with {done.returncode}: "
                             f"{' '.join(done.stderr.split())[-300:]}")  # fmt: skip
        return from_json(answers[-1], Trained)

    def alone(self, seconds: float) -> Trained | None:
        """As one process, or as one of torchrun's, of which the first has an answer."""
        losses: list[float] = []
        read: list[tuple[float, int]] = []  # when, and how many steps were done by then
        enough = False

        def look(step: Step) -> None:
            nonlocal enough
            losses.append(step.loss)
            now = time.perf_counter()
            if not read or now - read[-1][0] > 1e-3:
                read.append((now, step.step))
            read[-1] = (read[-1][0], step.step)  # several are told at once
            if len(read) > 1 and now - start > seconds and not enough:
                enough = True
                signal.raise_signal(signal.SIGINT)  # ends a training in all of its processes

        with world() as place:
            data = streets(self._spec.scratch.parent / "streets")
            config = TrainConfig(
                variant=self._case.variant, backbone=self._case.backbone, data=data,
                size=self._case.size, batch=self._batch, epochs=2, class_balance=0, oversample=0,
                workers=min(16, cores()) if place.device.type == "cuda" else 0,
                out=self._spec.scratch,
            )  # fmt: skip
            train, val = open_index(data, "train", True), open_index(data, "val", True)
            task = SegmentationTask(config, train, val, place)
            task.half, task.repeats = HALVES[self._precision], np.full(task.samples, _REPEATS)
            start = time.perf_counter()
            try:
                Trainer(config, task, place).run(look, lambda _: None)
            except KeyboardInterrupt:
                if place.first and not enough:
                    raise
            if not place.first:
                return None
            if len(read) < 2:
                raise HedgeError("the training ended before it was measured")
            (began, first), (ended, last) = read[0], read[-1]
            taken = torch.cuda.max_memory_allocated() / 1e6 if place.device.type == "cuda" else 0.0
            rate = (last - first) * self._batch / (ended - began)
            return Trained(rate, last, losses[0], losses[-1], taken)


def load(spec: Spec) -> Training:
    """What ``spec.way`` says."""
    return Training(spec)


def _parsed(way: str) -> tuple[Case, str, int, int]:
    case, precision, batch, processes = way.split()
    return Case.parse(case), precision, int(batch), int(processes)


if __name__ == "__main__":
    answers = answers_only()
    found = Training(from_json(sys.argv[1], Spec)).alone(float(sys.argv[2]))
    if found is not None:
        answers.write(to_json(found) + b"\n")
        answers.flush()
