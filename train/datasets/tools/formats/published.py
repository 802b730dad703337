"""Published sets that keep pictures and labels in trees of their own, with names that differ.

A set is a row: how its labels are called, how their pictures are, and what names its classes. What
the set calls void, or has no name for, counts nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from runtime.bundle import class_list
from runtime.bundle.classes import CITYSCAPES, CITYSCAPES_LABELS, IGNORE
from runtime.errors import HedgeError
from train.datasets.tools.export import Color, Export, Picture, Tool
from train.datasets.tools.formats import colors
from train.datasets.tools.formats.masks import NOWHERE, by_color, by_id
from train.datasets.tools.tree import Tree, read_json, read_text

_VOID = {"other", "undefined", "unlabeled", "void"}

_Names = Mapping[int, str] | Mapping[Color, str]  # by the number of a pixel, or by its colour


@dataclass(frozen=True)
class _Set:
    """label: how the path of a label ends; images: how its picture's does, without suffix, of what
    the groups of ``label`` hold; classes: the classes by number or colour. A group ``video`` is
    what stays in one split together."""

    name: str
    label: re.Pattern[str]
    images: tuple[str, ...]
    classes: Callable[[Tree], _Names]


def _read(own: _Set, tree: Tree) -> Export:
    names = {
        key: NOWHERE if name.lower() in _VOID else name for key, name in own.classes(tree).items()
    }
    shown = {key: name for key, name in names.items() if isinstance(key, tuple)}
    numbered = {IGNORE: NOWHERE} | {k: n for k, n in names.items() if isinstance(k, int)}
    pictures = []
    for label, image, video in _pairs(own, tree):
        layers = partial(by_color, label, shown) if shown else partial(by_id, label, numbered)
        pictures.append(Picture(image, layers, label, tree.split(label), video=video))
    known = tuple(dict.fromkeys(filter(None, names.values())))
    own_colors = {name: color for color, name in reversed(shown.items()) if name}
    return Export(known, tuple(pictures), own_colors, NOWHERE)


def _fits(own: _Set, tree: Tree) -> bool:
    return bool(_pairs(own, tree, 1)) and not _is_told(tree)


def _is_told(tree: Tree) -> bool:
    """Whether a classes.json says itself which number each class has, in folders as others have
    them."""
    chosen = tree.root / "classes.json"
    return chosen.is_file() and bool(class_list.load(chosen).ids) and colors.TOOL.fits(tree)


def _pairs(own: _Set, tree: Tree, most: int | None = None) -> list[tuple[Path, Path, str]]:
    """Labels, their pictures, and the video that these are of; at most so many."""
    found: list[tuple[Path, Path, str]] = []
    images: dict[str, Path] = {}
    for label in tree.images:
        path = label.relative_to(tree.root).as_posix()
        match = own.label.search(path)
        if match is None:
            continue
        images = images or {_bare(tree, image): image for image in tree.images}
        called = (path[: match.start()] + match.expand(image) for image in own.images)
        image = next((images[name] for name in called if name in images), None)
        if image:
            found.append((label, image, match.groupdict().get("video") or ""))
            if len(found) == most:
                break
    return found


def _bare(tree: Tree, image: Path) -> str:
    return image.relative_to(tree.root).with_suffix("").as_posix()


def _given(names: _Names) -> Callable[[Tree], _Names]:
    return lambda tree: names


def _file(tree: Tree, name: str, of: str) -> Path:
    """The file that names the classes of a set."""
    found = next((path for path in tree.files if path.name == name), None)
    if found is None:
        raise HedgeError(f"{tree.root}: {of} without {name}, which names its classes; add it")
    return found


def _a2d2(tree: Tree) -> _Names:
    """Colours of classes; those of several things of one class are numbered."""
    path = _file(tree, "class_list.json", "A2D2")
    rows = read_json(path, dict[str, str], "A2D2's list of classes")
    try:
        return {
            (int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)): re.sub(r" \d+$", "", name)
            for code, name in rows.items()
        }
    except ValueError as error:
        raise HedgeError(f"{path}: not A2D2's list of classes: {error}") from None


def _ade(tree: Tree) -> _Names:
    """Numbers from 1 on, each with several words; 0 is what has no class."""
    path = _file(tree, "objectInfo150.txt", "ADE20K")
    rows = [line.split("\t") for line in read_text(path).splitlines()[1:] if line.strip()]
    try:
        whole = {int(row[0]): row[-1].strip() for row in rows}
    except ValueError as error:
        raise HedgeError(f"{path}: not ADE20K's list of classes: {error}") from None
    short = {number: re.split("[,;]", words)[0].strip() for number, words in whole.items()}
    return {0: NOWHERE} | (short if len({*short.values()}) == len(short) else whole)


def _coco_stuff(tree: Tree) -> _Names:
    """Numbers that are one below those of labels.txt, whose first, "unlabeled", is 255."""
    path = _file(tree, "labels.txt", "COCO-Stuff")
    rows = [line.partition(":") for line in read_text(path).splitlines() if line.strip()]
    try:
        names = {int(number) - 1: name.strip() for number, _, name in rows}
    except ValueError as error:
        raise HedgeError(f"{path}: not COCO-Stuff's labels.txt: {error}") from None
    return {number: name for number, name in names.items() if number >= 0}


class _RailLabel(msgspec.Struct):
    name: str


class _RailConfig(msgspec.Struct):
    labels: list[_RailLabel]


def _railsem(tree: Tree) -> _Names:
    path = _file(tree, "rs19-config.json", "RailSem19")
    rows = read_json(path, _RailConfig, "RailSem19's config").labels
    return {number: row.name for number, row in enumerate(rows)}


def _camvid(tree: Tree) -> _Names:
    return colors.color_lines(_file(tree, "label_colors.txt", "CamVid"))


_CITYSCAPES = {
    number: NOWHERE if train_id == IGNORE else name
    for name, number, train_id, _ in CITYSCAPES_LABELS
}
# A group of cars, say, has the number of a car and 128.
_APOLLO_THINGS = {
    33: "car", 34: "motorcycle", 35: "bicycle", 36: "person", 37: "rider", 38: "truck", 39: "bus",
    40: "tricycle",
}  # fmt: skip
_APOLLO = _APOLLO_THINGS | {number + 128: name for number, name in _APOLLO_THINGS.items()} | {
    17: "sky", 49: "road", 50: "sidewalk", 65: "traffic cone", 66: "road pile", 67: "fence",
    81: "traffic light", 82: "pole", 83: "traffic sign", 84: "wall", 85: "dustbin",
    86: "billboard", 97: "building", 113: "vegetation",
    0: NOWHERE, 1: NOWHERE, 98: NOWHERE, 99: NOWHERE, 100: NOWHERE,  # not evaluated
}  # fmt: skip
_ISPRS = {
    (255, 255, 255): "impervious surface", (0, 0, 255): "building", (0, 255, 255): "low vegetation",
    (0, 255, 0): "tree", (255, 255, 0): "car", (255, 0, 0): "clutter",
}  # fmt: skip
_LOVEDA = dict(
    enumerate(
        (NOWHERE, "background", "building", "road", "water", "barren", "forest", "agricultural")
    )
)
_RELLIS = {
    0: NOWHERE, 1: "dirt", 3: "grass", 4: "tree", 5: "pole", 6: "water", 7: "sky", 8: "vehicle",
    9: "object", 10: "asphalt", 12: "building", 15: "log", 17: "person", 18: "fence", 19: "bush",
    23: "concrete", 27: "barrier", 31: "puddle", 33: "mud", 34: "rubble",
}  # fmt: skip
_VIRTUAL_KITTI = {
    (210, 0, 200): "terrain", (90, 200, 255): "sky", (0, 199, 0): "tree",
    (90, 240, 0): "vegetation", (140, 140, 140): "building", (100, 60, 100): "road",
    (250, 100, 255): "guard rail", (255, 255, 0): "traffic sign", (200, 200, 0): "traffic light",
    (255, 130, 0): "pole", (80, 80, 80): "misc", (160, 60, 60): "truck", (255, 127, 80): "car",
    (0, 139, 139): "van", (0, 0, 0): NOWHERE,
}  # fmt: skip

_SETS = (
    _Set("KITTI", re.compile(r"semantic/(\d{6}_10)\.png$"), (r"image_2/\1",), _given(_CITYSCAPES)),
    _Set(
        "ACDC", re.compile(r"gt/(.+)_gt_labelTrainIds\.png$"), (r"rgb_anon/\1_rgb_anon",),
        _given(dict(enumerate(CITYSCAPES.names))),
    ),
    _Set(
        "A2D2", re.compile(r"(?P<video>\w+)/label/(cam_\w+)/(\d+)_label_(\w+)_(\d+)\.png$"),
        (r"\1/camera/\2/\3_camera_\4_\5",), _a2d2,
    ),
    _Set("ApolloScape", re.compile(r"Label/(?P<video>.+)/(.+)_bin\.png$"), (r"ColorImage/\1/\2",),
        _given(_APOLLO)),
    _Set("ADE20K", re.compile(r"annotations/(\w+/ADE_\w+_\d{8})\.png$"), (r"images/\1",), _ade),
    _Set(
        "COCO-Stuff", re.compile(r"(?:annotations|stuffthingmaps\w*)/(\w+2017/\d{12})\.png$"),
        (r"images/\1", r"\1"), _coco_stuff,
    ),
    _Set("CamVid", re.compile(r"LabeledApproved_full/(.+)_L\.png$"), (r"701_StillsRaw_full/\1",),
         _camvid),
    _Set("Vaihingen", re.compile(r"gts_for_participants/(.+)\.tif$"), (r"top/\1",), _given(_ISPRS)),
    _Set(
        "Potsdam", re.compile(r"5_Labels_all/(.+)_label\.tif$"), (r"2_Ortho_RGB/\1_RGB",),
        _given(_ISPRS),
    ),
    _Set("LoveDA", re.compile(r"masks_png/(\d+)\.png$"), (r"images_png/\1",), _given(_LOVEDA)),
    _Set("RailSem19", re.compile(r"uint8/(rs19_val/rs\d+)\.png$"), (r"jpgs/\1",), _railsem),
    _Set(
        "RELLIS-3D", re.compile(r"(?P<video>\d+)/pylon_camera_node_label_id/(.+)\.png$"),
        (r"\1/pylon_camera_node/\2",), _given(_RELLIS),
    ),
    _Set(
        "Virtual KITTI 2",
        re.compile(r"(?P<video>Scene\d+)/(.+)/classSegmentation/(Camera_\d)/classgt_(\d+)\.png$"),
        (r"\1/\2/rgb/\3/rgb_\4",), _given(_VIRTUAL_KITTI),
    ),
)  # fmt: skip

TOOLS = tuple(Tool(own.name, partial(_fits, own), partial(_read, own)) for own in _SETS)
