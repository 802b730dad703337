"""YOLO segmentation: a text file a picture, a line an object: its class and its outline in 0..1.

data.yaml names the classes (obj.names or classes.txt in older exports). Outlines are filled with
OpenCV, the largest first, as Ultralytics lays them over each other. Pixels without a label are
background, and so is a picture without a file, unless its whole split has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from runtime.errors import HedgeError
from runtime.files import composed
from train.datasets.index import split_of
from train.datasets.tools.export import Export, Picture, Size, Tool, background, counted
from train.datasets.tools.formats.raster import filled, points_of
from train.datasets.tools.tree import Tree, read_text

_LISTS = ("classes.txt", "obj.names")
_ONLY_BOXES = (
    "holds boxes only (5 numbers a line); label with polygons and export 'YOLO segmentation'"
)
_POSES = (
    "holds poses (kpt_shape: boxes and joints), no outlines; label with polygons and export "
    "'YOLO segmentation'"
)
_BOX = 5  # numbers of a line: class, middle and size


_Name = str | bool | int | float | None


class _Yaml(msgspec.Struct):
    names: dict[int | str, _Name] | list[_Name]  # as YAML has 0, "0" and yes
    train: str | list[str] | None = None
    val: str | list[str] | None = None
    test: str | list[str] | None = None
    kpt_shape: object = None


def read(tree: Tree) -> Export:
    """The pictures that lie in a folder of images, or beside text files."""
    yaml = _yaml(tree)
    names = _names(yaml, tree)
    listed = _listed(tree, yaml) if yaml else {}
    texts = _texts(tree)
    boxes: Counter[str] = Counter()
    pictures = []
    outlines = 0
    labelled: set[str] = set()
    for image in tree.images:
        text = _text_of(image, texts)
        lines = [line.split() for line in read_text(text).splitlines()] if text else []
        boxes["boxes"] += sum(len(line) == _BOX for line in lines)
        kept = [line for line in lines if line and len(line) != _BOX]
        outlines += len(kept)
        split = _split(image, listed, tree.root)
        labelled |= {split} if text else set()
        layers = partial(_layers, text or image, kept, names)
        pictures.append(Picture(image, layers, text or image, split))
    if boxes["boxes"] and not outlines:
        raise HedgeError(f"{tree.root}: {_ONLY_BOXES}")
    return Export(
        tuple(names),
        tuple(picture for picture in pictures if picture.split in labelled),
        unlabelled=background(names),
        notes=counted("left out, as nothing outlines them", boxes),
    )


def _fits(tree: Tree) -> bool:
    is_named = _yaml_path(tree) or any(path.name in _LISTS for path in tree.of(".txt", ".names"))
    if not is_named:
        return False
    texts = _texts(tree)
    return any(_text_of(image, texts) for image in tree.images)


TOOL = Tool("YOLO", _fits, read)


def _yaml_path(tree: Tree) -> Path | None:
    found = tree.of(".yaml", ".yml")
    return next((path for path in found if b"names" in tree.sniff(path)), None)


def _yaml(tree: Tree) -> _Yaml | None:
    path = _yaml_path(tree)
    if path is None:
        return None
    try:
        found = msgspec.yaml.decode(read_text(path), type=_Yaml)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise HedgeError(f"{path}: not a data.yaml: {error}; it needs 'names'") from error
    if found.kpt_shape:  # of four joints, say, a line would be an outline as well
        raise HedgeError(f"{path}: {_POSES}")
    return found


def _names(yaml: _Yaml | None, tree: Tree) -> list[str]:
    """The classes by number; HedgeError where some number has no name."""
    if yaml:
        given = yaml.names if isinstance(yaml.names, dict) else dict(enumerate(yaml.names))
        try:
            names = {int(number): str(name) for number, name in given.items()}
        except ValueError as error:
            raise HedgeError(f"{_yaml_path(tree)}: 'names' needs numbers: {error}") from error
        if missing := [i for i in range(len(names)) if i not in names]:
            raise HedgeError(f"{_yaml_path(tree)}: 'names' lacks the class {missing[0]}; add it")
        return [names[i] for i in range(len(names))]
    path = next(path for path in tree.of(".txt", ".names") if path.name in _LISTS)
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def _listed(tree: Tree, yaml: _Yaml) -> dict[Path, str]:
    """The split of each picture in a list that data.yaml names, and of each folder that it names;
    of one that is both train and val, train: a val is made of it."""
    found: dict[Path, str] = {}
    for split in ("train", "val", "test"):
        value = getattr(yaml, split)
        for entry in [value] if isinstance(value, str) else value or []:
            for folder in tree.folders(entry):
                found.setdefault(folder, split)
            name = Path(entry).name
            for path in (path for path in tree.of(".txt") if path.name == name):
                for line in read_text(path).split("\n"):
                    if line.strip() and (image := tree.find(line.strip(), path.parent)):
                        found[image] = split
    return found


def _split(image: Path, listed: dict[Path, str], root: Path) -> str:
    """The split of a picture that is listed, else that of the nearest folder which says one."""
    for path in (image, *image.parents):
        if path == root:
            break
        if split := listed.get(path) or (split_of(path.name) if path != image else ""):
            return split
    return ""


def _texts(tree: Tree) -> dict[str, Path]:
    """The text files, by their path without its suffix."""
    return {composed(str(path.with_suffix(""))): path for path in tree.of(".txt")}


def _text_of(image: Path, texts: dict[str, Path]) -> Path | None:
    """The labels of a picture: in labels/ where it lies in images/, or beside it."""
    stem = image.with_suffix("")
    return texts.get(composed(str(_beside(stem)))) or texts.get(composed(str(stem)))


def _beside(stem: Path) -> Path:
    parts = list(stem.parts)
    for i in reversed(range(len(parts))):
        if parts[i].lower() == "images":
            parts[i] = "labels"
            break
    return Path(*parts)


def _layers(
    path: Path, lines: Sequence[Sequence[str]], names: Sequence[str], size: Size
) -> Iterator[tuple[str, np.ndarray]]:
    masks = []
    for line in lines:
        try:
            number, numbers = int(float(line[0])), [float(value) for value in line[1:]]
        except (ValueError, OverflowError):
            raise HedgeError(f"{path}: not class and outline: {' '.join(line)[:60]!r}") from None
        if not 0 <= number < len(names):
            raise HedgeError(f"{path}: class {number}, but data.yaml has {len(names)} names")
        points = points_of(numbers)
        if len(points) < 3 or np.abs(points).max() > 2:
            raise HedgeError(f"{path}: not an outline in 0..1: {' '.join(line)[:60]!r}")
        scaled = points.astype(np.float32) * np.array(size[::-1], np.float32)
        masks.append((names[number], filled([scaled], size)))
    yield from sorted(masks, key=lambda layer: -int(layer[1].sum()))
