"""The mIoU budget: which layers must stay in floating point, found by measuring.

First each layer alone goes to INT8, and the share of labels that change is its sensitivity. Then
the most sensitive layers are kept in floating point, as few as hold the budget, and each of them
is tried in INT8 again. Every set of layers is measured on the whole evaluation split, in each
engine that the bundle runs on here, and timed against plain INT8 in the same run; of those inside
the budget the fastest wins.

TensorRT builds an engine for every set, which takes minutes. Layers are ranked in a CPU engine
then, which builds nothing, and at most BUILDS sets are measured.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from export.int8 import qdq, search_log
from export.int8.pairs import Kept
from export.int8.quantizer import Quantizer, plain
from export.int8.search_bar import SearchBar
from export.int8.search_log import Layer, Log, Step
from export.staging import scratch
from export.verify import Budget, Drop, EvalFrame, FrameSet
from runtime import cli
from runtime.accuracy.metrics import ConfusionMatrix
from runtime.backends.registry import BACKENDS, installed_backends
from runtime.errors import GateError
from runtime.latency import Interleaved, settled_ms
from runtime.machine import version
from runtime.segment import Segmenter

PROXY = 16  # frames that a layer's sensitivity is measured on
TIMED = 32  # frames that a set of layers is timed on, in turn with plain INT8
BUILDS = 24  # sets that are measured where each is an engine to build
NOISE = 1.02  # sets closer in time than this are equally fast: the one that keeps less wins


class Search:
    """Look for the cheapest set of layers to keep; what was measured survives in ``folder``.

    backend: the engine that is timed; frames: the evaluation frames, at most so many of them;
    reference: PyTorch's answers on all of them; fixed: layers kept in any case.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        backend: str,
        frames: Callable[[int | None], FrameSet],
        reference: ConfusionMatrix,
        budget: Budget,
        fixed: Sequence[str],
        folder: Path,
    ) -> None:
        self._quantizer, self._backend, self._frames = quantizer, backend, frames
        self._others = [name for name in _same_device(backend) if name != backend]
        self._builds = BACKENDS[backend].device != "cpu"
        self._ranking = _on_cpu() if self._builds else backend
        self._reference, self._budget, self._folder = reference, budget, folder
        self._fixed = tuple(fixed)
        self._layers = [name for name in quantizer.layers() if name not in fixed]
        self._log = self._resumed()
        self._bar = SearchBar(budget)
        # Tries there can be: plain INT8, doubling and halving, then each kept layer once more.
        self._most = 2 + 2 * math.ceil(math.log2(max(len(self._layers), 1))) + len(self._layers)
        self._most = min(self._most, BUILDS) if self._builds else self._most

    def plain(self) -> Step:
        """INT8 with nothing kept but what is fixed; ``run`` will not measure it again."""
        with self._workplace() as self._work, self._bar:
            return self._step(())

    def settle(self, step: Step) -> None:
        """Take a set that was measured, without a search."""
        self._log.chosen = step
        self._save()

    def run(self) -> Step:
        """The cheapest set inside the budget; GateError names the best found where none is."""
        with self._workplace() as self._work, self._bar:
            if not self._budget.holds(self._step(()).drop):
                self._prune(self._enough(self._ranked()))
        inside = [step for step in self._log.steps if self._budget.holds(step.drop)]
        if not inside:
            best = min(self._log.steps, key=lambda step: step.drop.miou)
            self._save()
            raise GateError(
                f"no set of layers keeps INT8 within {self._budget}; the best found loses "
                f"{best.drop.miou:.2f} points ({best.drop.worst:.2f} of {best.drop.worst_class}) "
                f"with {len(best.kept)} of {len(self._layers)} layers in floating point: see "
                f"{self._folder / search_log.TABLE}; try --fp16"
            )
        fastest = min(step.ratio for step in inside)
        close = [step for step in inside if step.ratio <= fastest * NOISE]
        self._log.chosen = min(close, key=lambda step: (len(step.kept), step.ratio))
        self._save()
        return self._log.chosen

    def report(self, bundle: Path) -> None:
        """Leave table and plot in the bundle, and forget what was for resuming."""
        cli.err.print(search_log.table(self._log, self._budget, len(self._layers)))
        shutil.copy(self._folder / search_log.TABLE, bundle / search_log.TABLE)
        search_log.plot(self._log, self._budget, bundle / search_log.PLOT)
        self.forget()

    def forget(self) -> None:
        """Drop what was kept for resuming."""
        shutil.rmtree(self._folder)

    def _workplace(self) -> AbstractContextManager[Path]:
        """Where trials are written; with timings of kernels, which a resumed search needs again."""
        return nullcontext(self._folder) if self._builds else scratch()

    def _ranked(self) -> list[str]:
        """The layers, the most sensitive first."""
        known = {layer.name for layer in self._log.layers}
        left = [name for name in self._layers if name not in known]
        if left:
            self._measure_layers(left)
        return [la.name for la in sorted(self._log.layers, key=lambda layer: -layer.changed)]

    def _measure_layers(self, names: Sequence[str]) -> None:
        frames = list(self._frames(PROXY).frames)
        with Segmenter(plain(self._quantizer, self._work / "fp32"), self._ranking) as reference:
            expected = [reference(frame.image) for frame in frames]
        baseline = self._confusion(frames, expected)
        for name in self._bar.layers(names, len(names)):
            others = [other for other in self._layers if other != name]
            with self._engine((*self._fixed, *others), "layer", [self._ranking]) as engine:
                answers = [engine(frame.image) for frame in frames]
            changed = np.mean([(a != e).mean() for a, e in zip(answers, expected, strict=True)])
            drop = Drop.between(baseline, self._confusion(frames, answers))
            self._log.layers.append(Layer(name, float(changed), drop.miou))
            self._save()

    def _enough(self, ranked: Sequence[str]) -> tuple[str, ...]:
        """The shortest head of ``ranked`` that holds the budget: doubled, then halved."""
        low, high = 0, 1
        while not self._budget.holds(self._step(ranked[:high]).drop):
            if high >= len(ranked):
                return tuple(ranked)
            low, high = high, min(2 * high, len(ranked))
        while high - low > 1:
            middle = (low + high) // 2
            inside = self._budget.holds(self._step(ranked[:middle]).drop)
            low, high = (low, middle) if inside else (middle, high)
        return tuple(ranked[:high])

    def _prune(self, kept: tuple[str, ...]) -> None:
        """Try each kept layer in INT8 again, the least sensitive first."""
        self._most = len(self._log.steps) + len(kept)
        if not self._budget.holds(self._step(kept).drop):
            return
        for name in reversed(kept):
            if self._builds and len(self._log.steps) >= BUILDS:
                return
            fewer = tuple(other for other in kept if other != name)
            if self._budget.holds(self._step(fewer).drop):
                kept = fewer

    def _step(self, kept: Sequence[str]) -> Step:
        """Measure a set of layers on all frames, unless that was done before."""
        wanted = (*self._fixed, *kept)
        for step in self._log.steps:
            if set(step.kept) == set(wanted):
                return step
        self._bar.begin(len(self._log.steps) + 1, self._most, len(wanted))
        step = self._measured(wanted)
        self._log.steps.append(step)
        self._save()
        self._bar.tried(len(self._log.steps), step)
        return step

    def _measured(self, kept: tuple[str, ...]) -> Step:
        frames = self._frames(None)
        with ExitStack() as stack:
            int8 = stack.enter_context(self._engine(self._fixed, "int8"))
            engine = stack.enter_context(self._engine(kept))
            others = [stack.enter_context(Segmenter(self._work / "trial", b)) for b in self._others]
            judged = {e: ConfusionMatrix(self._reference.classes) for e in (engine, *others)}
            timed = Interleaved[np.ndarray]({"int8": _timed(int8), "trial": _timed(engine)})
            for frame in self._bar.frames(frames.frames, frames.count):
                assert frame.target is not None
                for segmenter, confusion in judged.items():
                    confusion.update(frame.target, segmenter(frame.image))
                if timed.rounds < TIMED:
                    timed.round(frame.image)
        ms = timed.medians()
        self._log.int8_ms = self._log.int8_ms or ms["int8"]
        ratio = ms["trial"] / ms["int8"]
        drop = Drop.largest(Drop.between(self._reference, c) for c in judged.values())
        return Step(kept, drop, ratio * self._log.int8_ms, ratio)

    def _engine(self, kept: Kept, name: str = "trial", backends: Sequence[str] = ()) -> Segmenter:
        backends = backends or (self._backend, *self._others)
        self._quantizer.trial(self._work / name, kept, backends)
        return Segmenter(self._work / name, backends[0])

    def _confusion(
        self, frames: Sequence[EvalFrame], answers: Sequence[np.ndarray]
    ) -> ConfusionMatrix:
        confusion = ConfusionMatrix(self._reference.classes)
        for frame, labels in zip(frames, answers, strict=True):
            assert frame.target is not None
            confusion.update(frame.target, labels)
        return confusion

    def _resumed(self) -> Log:
        """What an interrupted search of the same model on the same frames left, or a new log."""
        frames = self._frames(None)
        described = f"{frames.count} frames of {frames.data} ({frames.split})"
        backends = dict.fromkeys((self._backend, *self._others, self._ranking))
        engines = [(name, version(BACKENDS[name].library)) for name in backends]
        forms = (qdq.CPU, qdq.TENSORRT)
        labels = self._reference.counts.sum(1).tolist()  # they may have been put right since
        ranges = sorted(self._quantizer.ranges.items())
        content = (ranges, forms, self._fixed, engines, described, labels)
        key = hashlib.sha256(repr((self._quantizer.model, content)).encode()).hexdigest()
        path = self._folder / search_log.TABLE
        try:
            log = msgspec.json.decode(path.read_bytes(), type=Log)
            if log.key == key:
                cli.say(f"going on with {path}", cli.err)
                return log
        except (OSError, msgspec.MsgspecError, RecursionError):
            pass
        return Log(key, self._backend, described)

    def _save(self) -> None:
        self._log.save(self._folder / search_log.TABLE)


def _timed(segmenter: Segmenter) -> Callable[[np.ndarray], float]:
    """(H, W, 3) frame → milliseconds."""
    return lambda image: settled_ms(partial(segmenter, image))


def _same_device(backend: str) -> list[str]:
    """The installed engines that a bundle for ``backend`` also runs on."""
    device = BACKENDS[backend].device
    return [name for name in installed_backends() if BACKENDS[name].device == device]


def _on_cpu() -> str:
    """An engine that builds nothing; exporting brings ONNX Runtime."""
    return next(name for name in installed_backends() if BACKENDS[name].device == "cpu")
