"""Where a model most surely disagrees with the labels: there a label may be wrong. No PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.table import Column, Table
from rich.text import Text

from runtime import cli
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError
from runtime.outputs.overlay import Overlay
from runtime.outputs.sheet import judged, sheet
from runtime.segment import Segmenter
from runtime.sources.base import Frame
from train.datasets.index import Index, Item

_SURE = 0.9  # the confidence of a model that counts as sure
_IMAGES, _REGIONS = 10, 3  # that are listed: images, and regions of each
_LEAST = 1e-3  # of an image's pixels: smaller regions are the fringes of objects


@dataclass(frozen=True)
class Region:
    """A connected area; labelled, predicted: classes; confidence: the mean of the model's; box:
    left, top, width, height in pixels."""

    labelled: str
    predicted: str
    pixels: int
    confidence: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Disagreement:
    """An image; share: of its labelled pixels for which the model is sure of another class;
    regions: the largest; target, answer: (H, W) uint8, where both have a class, else 255."""

    split: str
    item: Item
    share: float
    regions: tuple[Region, ...]
    image: np.ndarray
    target: np.ndarray
    answer: np.ndarray


def found(bundle: Path, indexes: Sequence[Index]) -> list[Disagreement]:
    """The images that ``bundle`` most surely contradicts, the worst first.

    Classes that only one of the two has count nowhere. HedgeError where they share none, or where
    the bundle does not tell how sure it is.
    """
    worst: list[Disagreement] = []
    with Segmenter(bundle, confidence=True) as segmenter:
        table = _matched(segmenter.classes, indexes[0].classes, bundle)
        known = np.isin(np.arange(256), table[table != IGNORE])
        todo = [(index, item) for index in indexes for item in index.items]
        for index, item in cli.track(todo, f"asking {segmenter.manifest.name}"):
            rgb, label = index.read(item)
            image = np.ascontiguousarray(rgb[..., ::-1])
            prediction = segmenter.predict(Frame(0, 0.0, image, item.name))
            assert prediction.confidence is not None
            answer = table[prediction.labels]
            target = np.where(known[label], label, np.uint8(IGNORE))
            both = (target != IGNORE) & (answer != IGNORE)
            sure = both & (target != answer) & (prediction.confidence >= _SURE)
            if not sure.any():
                continue
            share = float(sure.sum() / max(int((target != IGNORE).sum()), 1))
            regions = _regions(sure, target, answer, prediction.confidence, index.classes)
            answer = np.where(sure, answer, target)  # only what it is sure of is shown as wrong
            worst.append(Disagreement(index.split, item, share, regions, image, target, answer))
            worst = sorted(worst, key=lambda each: -each.share)[:_IMAGES]
    return worst


def table(worst: Sequence[Disagreement]) -> Table:
    """A row an image, with its regions."""
    right = (Column(name, justify="right") for name in ("surely differs %",))
    table = Table("image", *right, Column("regions", overflow="fold"), title_justify="left",
                  title="most surely labelled otherwise")  # fmt: skip
    for each in worst:
        lines = [
            f"{r.labelled}: rather {r.predicted} ({r.confidence:.0%}), {r.pixels} px at "
            f"{r.box[0]},{r.box[1]}"
            for r in each.regions
        ]
        name = Text(f"{each.split}/{each.item.name}")
        table.add_row(name, f"{100 * each.share:.1f}", Text("\n".join(lines)))
    return table


def picture(worst: Sequence[Disagreement], classes: ClassSet) -> np.ndarray:
    """(H, W, 3) uint8 BGR: a row an image: itself, its label, what the model is sure of, where
    they differ."""
    overlay = Overlay(classes)
    rows = [
        (
            f"{each.split}/{each.item.name}: image, label, what the model is sure of, "
            f"{100 * each.share:.1f} % otherwise",
            judged(each.image, each.target, each.answer, overlay),
        )
        for each in worst
    ]
    return sheet(rows, classes)


def as_json(each: Disagreement) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "split": each.split,
        "image": str(each.item.image),
        "share": each.share,
        "regions": [asdict(region) for region in each.regions],
    }


def _matched(model: ClassSet, data: ClassSet, bundle: Path) -> np.ndarray:
    """(256,) uint8: the data's id of each of the model's, 255 where the data has no such class."""
    own = {name.casefold(): i for i, name in enumerate(data.names)}
    ids = [own.get(name.casefold(), IGNORE) for name in model.names]
    if all(value == IGNORE for value in ids):
        raise HedgeError(
            f"--with {bundle}: none of its classes ({', '.join(model.names)}) is one of the data's "
            f"({', '.join(data.names)})"
        )
    table = np.full(256, IGNORE, np.uint8)
    table[: len(ids)] = ids
    return table


def _regions(
    sure: np.ndarray, target: np.ndarray, answer: np.ndarray, confidence: np.ndarray,
    classes: ClassSet,
) -> tuple[Region, ...]:  # fmt: skip
    """The largest areas with one label and one answer."""
    regions = []
    pairs = target.astype(np.int32) * 256 + answer
    for pair in np.unique(pairs[sure]):
        mask = (sure & (pairs == pair)).astype(np.uint8)
        _, places, boxes, _ = cv2.connectedComponentsWithStats(mask)
        for number, (left, top, width, height, pixels) in enumerate(boxes.tolist()):
            if number and pixels >= _LEAST * target.size:
                mean = float(confidence[places == number].mean())
                names = (classes.names[pair // 256], classes.names[pair % 256])
                regions.append(Region(*names, pixels, mean, (left, top, width, height)))
    return tuple(sorted(regions, key=lambda region: -region.pixels)[:_REGIONS])
