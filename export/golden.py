"""The golden frames of a bundle, and how far from PyTorch's labels an engine may be on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from export import bundle, verify
from export.task import Task
from export.verify import EvalFrame, FrameSet
from runtime.backends import golden
from runtime.bundle.classes import IGNORE
from runtime.bundle.golden import Golden
from runtime.bundle.manifest import Manifest
from runtime.segment import Segmenter

COUNT = 3
# An engine may differ from PyTorch on twice the share that the worst of those measured differs on,
# and on a thousandth whatever they do; but on no more than MOST of the pixels that all of them
# answer as PyTorch does. INT8 of street19 loses 16 % on drawn streets, and one of other scales and
# other layers, as TensorRT's is, has 99.2 % of the rest.
MARGIN, LEAST, MOST = 2.0, 0.001, 0.05
# What engines make of an FP16 bundle; PyTorch shows the loss where no engine here does.
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Gathered:
    """Pictures of frames that pass by, ``COUNT`` evenly spaced ones."""

    manifest: Manifest
    pictures: list[np.ndarray] = field(default_factory=list)

    def of(self, frames: FrameSet) -> Iterator[EvalFrame]:
        """The frames themselves."""
        wanted = set(np.linspace(0, frames.count - 1, COUNT).astype(int).tolist())
        for number, frame in enumerate(frames.frames):
            if number in wanted:
                self.pictures.append(golden.picture(frame.image, self.manifest))
            yield frame


def drawn(manifest: Manifest) -> list[np.ndarray]:
    """Pictures of drawn streets."""
    frames = verify.generated(COUNT, golden.picture_size(manifest)).frames
    return [frame.image for frame in frames]


def add(
    task: Task,
    folder: Path,
    manifest: Manifest,
    engines: Sequence[Segmenter],
    pictures: Sequence[np.ndarray],
    data: str,
) -> Manifest:
    """Write pictures, and the labels that the network as it was given has for them, into a bundle.

    Gives its manifest with their bounds. Pixels that one of the engines labels otherwise are not
    asked of any: what they lack would hide what a wrong engine lacks.

    engines: all that run here; data: where the pictures are from.
    """
    shown = np.stack(pictures)
    reference = verify.TorchEngine(task.deployed(), manifest)
    labels = golden.answers(reference.infer, manifest, shown)
    sure = np.ones(labels.shape, bool)
    lost: dict[str, float] = {}
    autocast = reference.infer if task.network.facts.autocasts else None
    for arithmetic, infer in _ways(manifest, engines, autocast):
        right = golden.answers(infer, manifest, shown) == labels
        lost[arithmetic] = max(1 - float(right.mean()), lost.get(arithmetic, 0.0))
        sure &= right
    if manifest.precision == "fp16" and not task.network.facts.autocasts:
        # Nothing here shows what they lose, so they may lose what an export may.
        lost |= {name: 1 - verify.AGREEMENT[name] for name in _AUTOCAST if name not in lost}
    bounds = {name: 1 - min(MOST, max(LEAST, MARGIN * share)) for name, share in lost.items()}
    own = Golden(data, len(shown), bounds)
    golden.save(folder, own, shown, np.where(sure, labels, IGNORE).astype(np.uint8))
    return replace(manifest, golden=own, files=bundle.hashes(folder))


Infer = Callable[[np.ndarray], np.ndarray]


def _ways(
    manifest: Manifest, engines: Iterable[Segmenter], infer: Infer | None
) -> Iterator[tuple[str, Infer]]:
    """Each arithmetic that the bundle may be computed in, and what shows its labels."""
    for engine in engines:
        yield engine.computes, engine.infer
    if infer is not None and manifest.precision == "fp16":
        for name, kind in _AUTOCAST.items():
            yield name, torch.autocast("cpu", kind)(infer)
