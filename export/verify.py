"""Is the exported graph still the trained model? Label agreement and mIoU, on real frames."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from export.network import Deployed
from runtime.accuracy.metrics import ConfusionMatrix, known, points_lost
from runtime.backends.base import OneAtATime
from runtime.bundle.classes import ClassSet
from runtime.bundle.manifest import Manifest
from runtime.bundle.measured import Measured
from runtime.errors import GateError, HedgeError
from runtime.files import printable
from runtime.images import IMAGE_SUFFIXES, read_rgb
from runtime.latency import Latency
from runtime.segment import Segmenter
from train.datasets.index import Index, evenly_spaced, files
from train.datasets.synthetic.generate import still

# Share of pixels whose label must equal PyTorch's, by precision, or by what an engine makes of it.
AGREEMENT = {"fp32": 0.999, "fp16": 0.995, "bf16": 0.98, "int8": 0.9}
# Near-ties flip in these, more of them the less sure a model is. They are judged by what that costs
# in mIoU; only where there are no labels to measure it on, by agreement.
COARSE = {"bf16", "int8"}
PYTORCH = "pytorch"  # what the reference is called among the backends


class EvalFrame(NamedTuple):
    """name; image: (H, W, 3) uint8 BGR; target: (H, W) uint8 training ids, None if unlabelled."""

    name: str
    image: np.ndarray
    target: np.ndarray | None


@dataclass(frozen=True)
class FrameSet:
    """Frames to verify on, read or drawn one at a time, and where they come from."""

    data: str
    split: str
    count: int
    frames: Iterator[EvalFrame]


def labelled(index: Index, count: int) -> FrameSet:
    """At most ``count`` frames of a data set's split, evenly spaced over it."""
    items = evenly_spaced(index.items, count)

    def frames() -> Iterator[EvalFrame]:
        for item in items:
            rgb, target = index.read(item)
            yield EvalFrame(printable(item.name), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), target)

    return FrameSet(printable(index.root.name), index.split, len(items), frames())


def unlabelled(folder: Path, count: int) -> FrameSet:
    """At most ``count`` images of a folder, evenly spaced by name: they show parity alone."""
    paths = evenly_spaced([p for p in files(folder) if p.suffix.lower() in IMAGE_SUFFIXES], count)
    if not paths:
        raise HedgeError(f"{folder}: no images to verify on")

    def frames() -> Iterator[EvalFrame]:
        for path in paths:
            image = cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2BGR)
            yield EvalFrame(printable(path.stem), image, None)

    return FrameSet(printable(folder.name), "folder", len(paths), frames())


def generated(count: int, size: tuple[int, int]) -> FrameSet:
    """Drawn streets, for machines without the data set: they show parity, but have no labels."""

    def frames() -> Iterator[EvalFrame]:
        even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        for number in range(count):
            rgb, _ = still(np.random.default_rng(number), even)
            image = cv2.cvtColor(rgb[: size[0], : size[1]], cv2.COLOR_RGB2BGR)
            yield EvalFrame(f"drawn {number}", image, None)

    return FrameSet("drawn streets", "generated", count, frames())


class TorchEngine(OneAtATime):
    """A network as it was given, behind the Engine protocol: the reference for parity."""

    backend = PYTORCH

    def __init__(self, graph: Deployed, manifest: Manifest) -> None:
        self.manifest = manifest
        self._graph = graph.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        return self._graph(torch.from_numpy(batch))[0].numpy()


@dataclass
class Comparison:
    """One engine against the reference over all frames; ``worst``: frame, reference, answer.

    computes: see ``runtime.backends.registry.computes``; latency: milliseconds a frame, with all
    engines in turn on the same frames.
    """

    confusion: ConfusionMatrix
    computes: str = "fp32"
    latency: Latency = field(default_factory=Latency)
    equal: int = 0
    pixels: int = 0
    worst_share: float = float("inf")
    worst_name: str = ""
    worst: tuple[np.ndarray, ...] = field(default_factory=tuple)

    @property
    def agreement(self) -> float:
        """Share of pixels, over all frames, that got the reference's label."""
        return self.equal / self.pixels if self.pixels else float("nan")

    def add(self, name: str, image: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> None:
        """Count a frame."""
        same = reference == labels
        self.equal, self.pixels = self.equal + int(same.sum()), self.pixels + same.size
        if same.mean() < self.worst_share:
            self.worst_share, self.worst_name = float(same.mean()), name
            self.worst = (image, reference, labels)

    def picture(self, classes: ClassSet) -> np.ndarray:
        """(H, 4W, 3) uint8 BGR of the worst frame: input | reference | answer | differences."""
        image, reference, labels = self.worst
        palette = classes.palette()
        wrong = np.where((reference != labels)[..., None], np.uint8(255), image // 3)
        return np.concatenate([image, palette[reference], palette[labels], wrong], axis=1)


def compare(
    reference: Segmenter, engines: Sequence[Segmenter], frames: Iterable[EvalFrame]
) -> dict[str, Comparison]:
    """Run all engines over ``frames``; keys are "pytorch" and each engine's backend.

    The reference gets one frame at a time, the engines as many different ones as they take.
    """
    classes = reference.manifest.classes
    everyone = [reference, *engines]
    results = {
        engine.backend: Comparison(ConfusionMatrix(classes), engine.computes) for engine in everyone
    }
    for group in _groups(frames, reference.batch):
        images, expected = [frame.image for frame in group], list[np.ndarray]()
        for engine in everyone:
            # A graph that mixes the frames of a batch is right as long as they are the same one.
            calls = [[image] for image in images] if engine is reference else [images]
            start = time.perf_counter()
            answers = [labels for call in calls for labels in engine(call)]
            milliseconds = (time.perf_counter() - start) * 1e3
            result = results[engine.backend]
            result.latency.add(milliseconds / (len(calls) * engine.batch))
            expected = expected or answers
            for frame, own, labels in zip(group, expected, answers, strict=True):
                result.add(frame.name, frame.image, own, labels)
                if frame.target is not None:
                    result.confusion.update(frame.target, labels)
    return results


def _groups(frames: Iterable[EvalFrame], size: int) -> Iterator[list[EvalFrame]]:
    """As many frames as there are, ``size`` at a time."""
    left = iter(frames)
    while group := list(islice(left, size)):
        yield group


@dataclass(frozen=True)
class Drop:
    """What an engine loses against the reference, in points of mIoU and of its worst class."""

    miou: float
    worst: float
    worst_class: str

    @classmethod
    def between(cls, reference: ConfusionMatrix, answer: ConfusionMatrix) -> Drop:
        """Both over the same labelled frames."""
        lost = 100 * (reference.iou() - answer.iou())
        lost[np.isnan(lost)] = -np.inf  # a class that does not occur loses nothing
        worst = int(lost.argmax())
        miou = points_lost(reference.iou_by_name(), answer.iou_by_name())
        return cls(miou, float(lost[worst]), reference.classes.names[worst])

    @classmethod
    def largest(cls, drops: Iterable[Drop]) -> Drop:
        """What the worst of several engines loses, in mIoU and in a class."""
        found = list(drops)
        worst = max(found, key=lambda drop: drop.worst)
        return replace(worst, miou=max(drop.miou for drop in found))


@dataclass(frozen=True)
class Budget:
    """How much coarse arithmetic may lose, in points; None: as much as it likes."""

    miou: float | None
    worst: float | None

    def holds(self, drop: Drop) -> bool:
        """Whether ``drop`` is inside."""
        return drop.miou <= _or_any(self.miou) and drop.worst <= _or_any(self.worst)

    def __str__(self) -> str:
        parts = [f"{self.miou:g} points of mIoU"] if self.miou is not None else []
        parts += [f"{self.worst:g} points of a class"] if self.worst is not None else []
        return " and ".join(parts)


def require(
    results: dict[str, Comparison], precision: str, budget: Budget, origin: str = "PyTorch"
) -> None:
    """The gate: GateError names an engine that agrees too little, or loses more than ``budget``.

    precision: of the bundle. FP32 and FP16 must give the labels of ``origin``, which runs the
    network as it was given, whatever they lose; COARSE arithmetic may lose ``budget``.
    """
    labelled = bool(results[PYTORCH].confusion.counts.any())
    for backend, result in engines_only(results).items():
        arithmetic = result.computes if result.computes in COARSE else precision
        if labelled and arithmetic in COARSE:
            _require_budget(backend, results[PYTORCH], result, budget)
        else:
            _require_agreement(backend, result, arithmetic, origin)


def _require_budget(
    backend: str, reference: Comparison, result: Comparison, budget: Budget
) -> None:
    drop = Drop.between(reference.confusion, result.confusion)
    if not budget.holds(drop):
        raise GateError(
            f"{backend}, which computes in {result.computes}, loses {drop.miou:.2f} points of mIoU "
            f"and {drop.worst:.2f} of {drop.worst_class}; allowed are {budget}"
        )


def _or_any(value: float | None) -> float:
    return float("inf") if value is None else value


def _require_agreement(backend: str, result: Comparison, arithmetic: str, origin: str) -> None:
    gate = AGREEMENT[arithmetic]
    if result.agreement < gate:
        raise GateError(
            f"{backend} gives {100 * result.agreement:.3f} % of the pixels {origin}'s label, "
            f"the gate for {arithmetic} is {100 * gate:.1f} %; worst frame "
            f"{result.worst_name} ({100 * result.worst_share:.2f} %)"
        )


def engines_only(results: dict[str, Comparison]) -> dict[str, Comparison]:
    """The results without the reference's own."""
    return {name: result for name, result in results.items() if name != PYTORCH}


def measured(results: dict[str, Comparison], frames: FrameSet, origin: str = "PyTorch") -> Measured:
    """What the manifest keeps: the deployed graph's mIoU beside that of ``origin``, and the parity.

    mIoU and IoU are None where the frames have no labels.
    """
    engines = engines_only(results)
    best = next(iter(engines.values()), results[PYTORCH])
    return Measured(
        data=frames.data,
        split=frames.split,
        images=frames.count,
        reference=origin,
        miou=known(best.confusion.miou()),
        iou=best.confusion.iou_by_name(),
        miou_pytorch=known(results[PYTORCH].confusion.miou()),
        iou_pytorch=results[PYTORCH].confusion.iou_by_name(),
        miou_by_backend={name: known(r.confusion.miou()) for name, r in engines.items()},
        iou_by_backend={name: r.confusion.iou_by_name() for name, r in engines.items()},
        latency_ms={name: r.latency.percentiles() for name, r in results.items()},
        agreement={name: result.agreement for name, result in engines.items()},
        computes={name: result.computes for name, result in engines.items()},
        worst_frame={name: (r.worst_name, r.worst_share) for name, r in engines.items()},
    )
