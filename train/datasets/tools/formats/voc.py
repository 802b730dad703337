"""Pascal VOC and CVAT's "Segmentation mask 1.1": JPEGImages/, SegmentationClass/, ImageSets/.

labelmap.txt (CVAT) names classes and colours, class_names.txt (LabelMe) those of the ids; without
either the classes are VOC's twenty-one. Of several trees each has its own list. Background is a
class; VOC's border, 255, counts nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runtime.accuracy import label_files
from runtime.bundle.classes import IGNORE
from runtime.errors import HedgeError
from runtime.files import composed
from train.datasets.index import Fault, Problem, split_of
from train.datasets.tools.export import Color, Export, Layers, Picture, Size, Tool
from train.datasets.tools.formats.masks import NOWHERE, by_color, by_id, has_palette
from train.datasets.tools.tree import Tree, read_text

_AUGMENTED = "SegmentationClassAug"  # of all pictures, those of SegmentationClass among them
_FOLDERS = ("SegmentationClass", "SegmentationClassPNG", _AUGMENTED)  # the second one is LabelMe's
_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True)
class _List:
    """Classes in their order; by_color: colours tell them, not numbers, in palettes too."""

    colors: dict[str, Color]
    by_color: bool = False


def voc_color(value: int) -> Color:
    """VOC's colour of an id: its bits, from the lowest on, are the highest of red, green, blue."""
    bits = [(value >> i & 1, i % 3, 7 - i // 3) for i in range(8)]
    red, green, blue = (sum(bit << place for bit, c, place in bits if c == n) for n in range(3))
    return red, green, blue


_BORDER = voc_color(IGNORE)


def read(tree: Tree) -> Export:
    """The pictures that have a label, split as the lists of ImageSets say, else as folders do."""
    lists = _lists(tree)
    every = [*lists.values()] or [_List({name: voc_color(i) for i, name in enumerate(_VOC)})]
    names = tuple(dict.fromkeys(name for classes in every for name in classes.colors))
    owners: dict[Color, str] = {}  # two trees may have given one colour to two classes
    for classes in every:
        for owner, color in classes.colors.items():
            owners.setdefault(color, owner)
    colors = {owner: color for color, owner in owners.items()}
    background = next((n for n in names if n.strip("_").lower() == "background"), NOWHERE)
    splits = _splits(tree)
    images = {composed(str(path.with_suffix(""))): path for path in tree.images}
    pictures, faults = [], []
    for label in label_files.label_files(_labels(tree)):
        folder = next(p for p in label.parents if p.name in _FOLDERS)
        name = label.relative_to(folder).with_suffix("")
        key = composed(str(folder.parent / "JPEGImages" / name))
        image = images.get(key)
        if image is None:
            detail = "no picture of this name in JPEGImages"
            faults.append(Fault(Problem.ORPHAN_LABEL, label, detail))
            continue
        split = splits.get(key) or tree.split(label)
        layers = partial(_layers, label, lists.get(folder.parent, every[0]))
        pictures.append(Picture(image, layers, label, split))
    return Export(names, tuple(pictures), colors, background, faults=tuple(faults))


def _fits(tree: Tree) -> bool:
    return any(True for _ in _labels(tree))


TOOL = Tool("Pascal VOC", _fits, read)


def _labels(tree: Tree) -> list[Path]:
    found = [p for p in tree.images if any(part in _FOLDERS for part in p.parent.parts)]
    whole = {tree for p in found for tree in p.parents if (tree / _AUGMENTED) in p.parents}
    return [p for p in found if _AUGMENTED in p.parent.parts or not whole & {*p.parents}]


def _lists(tree: Tree) -> dict[Path, _List]:
    """The class lists by the folders that they lie in."""
    found: dict[Path, _List] = {}
    for path in tree.of(".txt"):
        if path.name == "labelmap.txt":
            colors = dict(_entry(path, line) for line in _lines(path))
            if len(set(colors.values())) < len(colors):
                raise HedgeError(f"{path}: two classes share a colour; give each one its own")
            found[path.parent] = _List(colors, by_color=True)
        elif path.name == "class_names.txt":
            ids = [line for line in _lines(path) if line not in ("__ignore__", "_ignore_")]
            found.setdefault(path.parent, _List({n: voc_color(i) for i, n in enumerate(ids)}))
    return found


def _entry(path: Path, line: str) -> tuple[str, Color]:
    """A line ``name:r,g,b:parts:actions``."""
    name, _, rest = line.partition(":")
    numbers = rest.split(":")[0].split(",")
    if len(numbers) != 3 or not all(n.strip().isdigit() and int(n) < 256 for n in numbers):
        raise HedgeError(f"{path}: expected 'name:red,green,blue::', found {line[:60]!r}")
    red, green, blue = map(int, numbers)
    return name.strip(), (red, green, blue)


def _lines(path: Path) -> list[str]:
    lines = (line.strip() for line in read_text(path).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _splits(tree: Tree) -> dict[str, str]:
    """The split of each picture, without its suffix, that a list of ImageSets/Segmentation has."""
    lists = (path for path in tree.of(".txt") if path.parent.name == "Segmentation")
    return {
        composed(str(path.parents[2] / "JPEGImages" / line)): split
        for path in lists
        if (split := split_of(path.stem))
        for line in _lines(path)
    }


def _layers(label: Path, classes: _List, size: Size) -> Layers:
    if has_palette(label) and not classes.by_color:
        return by_id(label, dict(enumerate(classes.colors)) | {IGNORE: NOWHERE}, size)
    known = {color: name for name, color in classes.colors.items()}
    return by_color(label, {_BORDER: NOWHERE} | known, size)
