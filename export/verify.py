"""Is the exported graph still the trained model? Label agreement and mIoU, on real frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from export.deploy import DeployGraph
from runtime.classes import ClassSet
from runtime.errors import GateError
from runtime.manifest import Manifest
from runtime.metrics import ConfusionMatrix
from runtime.segment import Segmenter
from train.datasets.index import Index, Item
from train.datasets.synthetic.generate import still

# Share of pixels whose label must equal PyTorch's, by precision.
AGREEMENT = {"fp32": 0.999, "fp16": 0.995}
# OpenVINO computes FP16 graphs in bf16 where the CPU has it: 8 bits of mantissa instead of 11.
ROUNDED = {("openvino", "fp16"): 0.99}


class TestFrame(NamedTuple):
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
    frames: Iterator[TestFrame]


def labelled(index: Index, count: int) -> FrameSet:
    """At most ``count`` frames of a data set's split, evenly spaced over it."""
    items = evenly_spaced(index.items, count)

    def frames() -> Iterator[TestFrame]:
        for item in items:
            rgb, target = index.read(item)
            yield TestFrame(item.name, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), target)

    return FrameSet(index.root.name, index.split, len(items), frames())


def generated(count: int, size: tuple[int, int]) -> FrameSet:
    """Drawn streets, for machines without the data set: they show parity, but have no labels."""

    def frames() -> Iterator[TestFrame]:
        even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        for number in range(count):
            rgb, _ = still(np.random.default_rng(number), even)
            image = cv2.cvtColor(rgb[: size[0], : size[1]], cv2.COLOR_RGB2BGR)
            yield TestFrame(f"drawn {number}", image, None)

    return FrameSet("drawn streets", "generated", count, frames())


class TorchEngine:
    """The FP32 DeployGraph in PyTorch behind the Engine protocol: the reference for parity."""

    backend = "pytorch"

    def __init__(self, graph: DeployGraph, manifest: Manifest) -> None:
        self.manifest = manifest
        self._graph = graph.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def infer(self, batch: np.ndarray) -> np.ndarray:
        return self._graph(torch.from_numpy(batch)).numpy()

    def close(self) -> None:
        pass

    def __enter__(self) -> TorchEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Comparison:
    """One engine against the reference over all frames; ``worst``: frame, reference, answer."""

    confusion: ConfusionMatrix
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
    reference: Segmenter, engines: Sequence[Segmenter], frames: Iterable[TestFrame]
) -> dict[str, Comparison]:
    """Run all engines over ``frames``; keys are "pytorch" and each engine's backend."""
    classes = reference.manifest.classes
    everyone = [reference, *engines]
    results = {engine.backend: Comparison(ConfusionMatrix(classes)) for engine in everyone}
    for frame in frames:
        expected = reference(frame.image)
        for engine in everyone:
            labels = expected if engine is reference else engine(frame.image)
            results[engine.backend].add(frame.name, frame.image, expected, labels)
            if frame.target is not None:
                results[engine.backend].confusion.update(frame.target, labels)
    return results


def require_agreement(results: dict[str, Comparison], precision: str) -> None:
    """The parity gate: GateError names the backend, its agreement and its worst frame."""
    for backend, result in engines_only(results).items():
        gate = ROUNDED.get((backend, precision), AGREEMENT[precision])
        if result.agreement < gate:
            raise GateError(
                f"{backend} gives {100 * result.agreement:.3f} % of the pixels PyTorch's label, "
                f"the gate for {precision} is {100 * gate:.1f} %; worst frame "
                f"{result.worst_name} ({100 * result.worst_share:.2f} %)"
            )


def engines_only(results: dict[str, Comparison]) -> dict[str, Comparison]:
    """The results without the reference's own."""
    return {name: result for name, result in results.items() if name != TorchEngine.backend}


def measured(results: dict[str, Comparison], frames: FrameSet) -> dict[str, Any]:
    """What the manifest keeps: the deployed graph's mIoU beside PyTorch's, and the parity.

    mIoU and IoU are None where the frames have no labels.
    """
    engines = engines_only(results)
    best = next(iter(engines.values()), results[TorchEngine.backend])
    return {
        "data": frames.data,
        "split": frames.split,
        "images": frames.count,
        "miou": _miou(best),
        "iou": best.confusion.iou_by_name(),
        "miou_pytorch": _miou(results[TorchEngine.backend]),
        "miou_by_backend": {name: _miou(result) for name, result in engines.items()},
        "agreement": {name: result.agreement for name, result in engines.items()},
        "worst_frame": {name: [r.worst_name, r.worst_share] for name, r in engines.items()},
    }


def _miou(result: Comparison) -> float | None:
    value = result.confusion.miou()
    return None if np.isnan(value) else value


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """``count`` items spread over the whole split, all of them where it holds fewer."""
    if len(items) <= count:
        return list(items)
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, count)]
