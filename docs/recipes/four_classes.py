"""Small data sets of four classes, made from CamVid: few images, and the same in five formats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree as Xml

import cv2
import numpy as np
import tyro
from PIL import Image

from runtime import cli
from runtime.errors import HedgeError
from train.datasets import open_index
from train.datasets.index import Index, Item, evenly_spaced

CLASSES = {
    "background": ("building", "pole", "sign_symbol", "fence"),
    "ground": ("road", "pavement"),
    "nature": ("sky", "tree"),
    "traffic": ("car", "pedestrian", "bicyclist"),
}
COLORS = ((110, 110, 110), (128, 64, 128), (60, 140, 60), (0, 60, 180))
NAMES = tuple(CLASSES)
Pair = tuple[str, Item, np.ndarray]  # split, image, (H, W) uint8 label


def merged(index: Index, items: list[Item], split: str) -> Iterator[Pair]:
    """Items with their labels in the four classes; what has no label is background."""
    table = np.zeros(256, np.uint8)
    for number, parts in enumerate(CLASSES.values()):
        table[[index.classes.names.index(name) for name in parts]] = number
    for item in items:
        yield split, item, table[index.read_label(item.label)]


def put(item: Item, folder: Path) -> str:
    """Copy an item's image; its name."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(item.image, folder / item.image.name)
    return item.image.name


def outlines(label: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Each connected area as (class, (N, 2) outline), the largest first: what lies in a hole comes
    later, and is drawn above."""
    found = []
    for number in np.unique(label):
        count, areas = cv2.connectedComponents((label == number).astype(np.uint8), connectivity=4)
        for area in range(1, count):
            mask = (areas == area).astype(np.uint8)
            ring = max(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
            filled = cv2.drawContours(np.zeros_like(mask), [ring], -1, 1, cv2.FILLED)
            found.append((int(filled.sum()), int(number), ring[:, 0]))
    return [(number, ring) for _, number, ring in sorted(found, key=lambda f: -f[0])]


def runs(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of a flat mask, zeros first."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=-1))
    return np.diff(np.concatenate([[0], edges, [len(mask)]])).tolist()


def folder(out: Path, pairs: list[Pair]) -> None:
    """The folder layout."""
    for split, item, label in pairs:
        put(item, out / "images" / split)
        path = out / "labels" / split / f"{item.image.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(label).save(path)
    rows = [{"name": n, "color": c} for n, c in zip(NAMES, COLORS, strict=True)]
    (out / "classes.json").write_text(json.dumps({"classes": rows}))


def coco(out: Path, pairs: list[Pair]) -> None:
    """A file a split, of masks as run lengths."""
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)]
    files: dict[str, dict[str, list]] = {}
    for number, (split, item, label) in enumerate(pairs):
        empty: dict[str, list] = {"images": [], "annotations": [], "categories": categories}
        file = files.setdefault(split, empty)
        size = label.shape
        name = put(item, out / split)
        file["images"].append(
            {"id": number, "file_name": name, "height": size[0], "width": size[1]}
        )
        for value in np.unique(label):
            shape = {"counts": runs((label == value).T.ravel()), "size": size}
            file["annotations"].append(
                {"id": 10 * number + int(value), "image_id": number, "category_id": int(value) + 1,
                 "segmentation": shape, "iscrowd": 0}
            )  # fmt: skip
    (out / "annotations").mkdir()
    for split, file in files.items():
        (out / "annotations" / f"instances_{split}.json").write_text(json.dumps(file))


def voc(out: Path, pairs: list[Pair]) -> None:
    """CVAT's "Segmentation mask 1.1": labels as colours, and a list a split."""
    lists: dict[str, list[str]] = {}
    for split, item, label in pairs:
        put(item, out / "JPEGImages")
        lists.setdefault(split, []).append(item.image.stem)
        (out / "SegmentationClass").mkdir(exist_ok=True)
        colors = np.array(COLORS, np.uint8)[label]
        Image.fromarray(colors).save(out / "SegmentationClass" / f"{item.image.stem}.png")
    (out / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, names in lists.items():
        (out / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names))
    lines = (f"{n}:{','.join(map(str, c))}::" for n, c in zip(NAMES, COLORS, strict=True))
    (out / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join(lines))


def labelme(out: Path, pairs: list[Pair]) -> None:
    """A file an image, of outlines."""
    for split, item, label in pairs:
        name = put(item, out / split)
        shapes = [
            {"label": NAMES[value], "points": ring.tolist(), "shape_type": "polygon"}
            for value, ring in outlines(label)
            if len(ring) > 2
        ]
        file = {"version": "5.4.1", "shapes": shapes, "imagePath": name, "imageData": None,
                "imageHeight": label.shape[0], "imageWidth": label.shape[1]}  # fmt: skip
        (out / split / f"{item.image.stem}.json").write_text(json.dumps(file))


def cvat(out: Path, pairs: list[Pair]) -> None:
    """CVAT XML 1.1 of masks, by subset."""
    root = Xml.Element("annotations")
    labels = Xml.SubElement(Xml.SubElement(Xml.SubElement(root, "meta"), "job"), "labels")
    for name, color in zip(NAMES, COLORS, strict=True):
        entry = Xml.SubElement(labels, "label")
        Xml.SubElement(entry, "name").text = name
        Xml.SubElement(entry, "color").text = "#{:02x}{:02x}{:02x}".format(*color)
    for number, (split, item, label) in enumerate(pairs):
        height, width = label.shape
        name = put(item, out / "images" / split)
        size = {"width": str(width), "height": str(height)}
        about = {"id": str(number), "name": f"{split}/{name}", "subset": split}
        image = Xml.SubElement(root, "image", about | size)
        for value in np.unique(label):
            text = ", ".join(map(str, runs((label == value).ravel())))
            place = {"label": NAMES[value], "rle": text, "left": "0", "top": "0", "z_order": "0"}
            Xml.SubElement(image, "mask", place | size)
    Xml.ElementTree(root).write(out / "annotations.xml")


def yolo(out: Path, pairs: list[Pair]) -> None:
    """data.yaml, and a file an image, of outlines."""
    for split, item, label in pairs:
        put(item, out / "images" / split)
        height, width = label.shape
        lines = [
            " ".join([str(value), *(f"{v:.6f}" for v in (ring / (width, height)).ravel())])
            for value, ring in outlines(label)
            if len(ring) > 2
        ]
        path = out / "labels" / split / f"{item.image.stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    names = "\n".join(f"  {i}: {name}" for i, name in enumerate(NAMES))
    (out / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}\n")


FORMATS: tuple[Callable[[Path, list[Pair]], None], ...] = (coco, voc, labelme, cvat, yolo)


@dataclass(frozen=True)
class FourClasses:
    """Make small data sets of four classes from CamVid.

    OUT/few: 40 + 8 images of its train split, what somebody labels in a day or two; OUT/test: its
    101 val images, to measure on; OUT/coco, voc, labelme, cvat, yolo: 48 + 12 images as these tools
    export them, with outlines in LabelMe and YOLO, with masks in the others.

    Example: python docs/recipes/four_classes.py camvid four
    """

    camvid: Annotated[Path, tyro.conf.Positional]
    """CamVid in the folder layout, of eleven classes."""
    out: Annotated[Path, tyro.conf.Positional]
    """A new folder."""


def main(config: FourClasses) -> None:
    """Write all of it."""
    camvid, out = config.camvid, config.out
    if out.exists():
        raise HedgeError(f"{out} exists; name a new folder")
    train, val = (open_index(camvid, split) for split in ("train", "val"))
    few = evenly_spaced(train.items, 48)
    held = few[5::6]
    pairs = [
        *merged(train, [i for i in few if i not in held], "train"),
        *merged(train, held, "val"),
    ]
    folder(out / "few", pairs)
    folder(out / "test", [*merged(val, list(val.items), "val")])
    pairs = [*merged(train, few, "train"), *merged(val, evenly_spaced(val.items, 12), "val")]
    for write in FORMATS:
        (out / write.__name__).mkdir(parents=True)
        write(out / write.__name__, pairs)


if __name__ == "__main__":
    cli.run(FourClasses, main, "python docs/recipes/four_classes.py")
