"""The list layout: a text file with a line ``image, label[, edges]`` per labelled image.

Paths are relative to the list, with / or \\ between folders; blank lines and lines that start with
``#`` are skipped. A line without a comma is cut at tabs or blanks, as the lists of SegNet, DeepLab
and PaddleSeg are. The list of another split lies beside it: train.txt and val.txt, my_train_2.txt
and my_val_2.txt.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath

from runtime.accuracy import label_files
from runtime.bundle import class_list
from runtime.bundle.classes import CITYSCAPES, ClassSet
from runtime.errors import HedgeError
from runtime.files import existing
from train.datasets.index import Fault, Index, Item, Layout, Problem, Survey, load_classes

_SPLITS = ("train", "val", "test")
_CLASS_LISTS = ("classes.json", "labels.txt")
_CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian",
    "bicyclist",
)  # fmt: skip


def fits(data: Path) -> bool:
    """Whether ``data`` is a list, or a folder that holds one."""
    return data.is_file() or any((data / f"{split}.txt").is_file() for split in _SPLITS)


def survey(data: Path, split: str) -> Survey:
    """The pairs that the split's list names, and every line or file that is wrong."""
    path = list_of(data, split)
    items, wrong = _parse(path, split)
    classes, faults = _classes(path.parent, items)
    # Without a class list the names say what a label holds, exactly as in the official tree.
    read_label = partial(label_files.read_label, class_set=classes)
    index = Index(path.parent, split, LAYOUT.name, classes, _named(items, path.parent), read_label)
    return Survey(index, (*faults, *wrong))


def list_of(data: Path, split: str) -> Path:
    """The list of ``split``, given a folder or the list of any split; it need not exist.

    HedgeError where the name of a list does not say which split it is.
    """
    if data.is_dir():
        return data / f"{split}.txt"
    for known in _SPLITS:
        before, found, after = data.name.rpartition(known)
        if found:
            return data.with_name(f"{before}{split}{after}")
    raise HedgeError(f"{data}: its name must hold 'train' or 'val', so that both lists are found")


def is_guess(index: Index) -> bool:
    """Whether nothing but custom says that the labels of a list are of Cityscapes."""
    return index.layout == LAYOUT.name and not (
        any((index.root / name).exists() for name in _CLASS_LISTS)
        or any("_gtFine_" in item.label.stem for item in index.items)
    )


LAYOUT = Layout("list", fits, survey)


def _classes(folder: Path, items: list[Item]) -> tuple[ClassSet, list[Fault]]:
    """The classes of a list: of its classes.json, else its labels.txt, else Cityscapes' own.

    Pictures of CamVid by SegNet hold numbers that Cityscapes has, too, for other things.
    """
    chosen, names = (folder / name for name in _CLASS_LISTS)
    if chosen.exists():
        return load_classes(chosen)
    if names.is_file():
        return class_list.named(names), []
    if any(item.label.parent.name.endswith("annot") for item in items):
        detail = (
            "not there, and labels of trainannot/ have other numbers than Cityscapes; for SegNet's "
            f'CamVid: {{"classes": {json.dumps(_CAMVID)}, "ignore": {len(_CAMVID)}}}'
        )
        return CITYSCAPES, [Fault(Problem.CLASS_LIST, chosen, detail)]
    return CITYSCAPES, []


def _parse(path: Path, split: str) -> tuple[list[Item], list[Fault]]:
    lines, faults = _lines(path)
    items: dict[Path, Item] = {}
    for number, line in lines:
        parted = line.split(",") if "," in line else line.split("\t" if "\t" in line else None)
        fields = [field.strip() for field in parted]
        if not (2 <= len(fields) <= 3 and all(fields)):
            detail = f"expected 'image, label[, edges]', found {line!r}"
            faults.append(Fault(Problem.BAD_LINE, path, detail, number))
            continue
        named = [_file(path.parent, field) for field in fields]
        missing = [file for file in named if not file.is_file()]
        faults += [Fault(Problem.MISSING_FILE, path, f"no file {m}", number) for m in missing]
        if named[0] in items:
            detail = f"{fields[0]} is listed twice; remove one line"
            faults.append(Fault(Problem.DUPLICATE, path, detail, number))
        elif not missing:
            items[named[0]] = Item(named[0].stem, *named)
    if not items and not faults:
        detail = f"no such list, or no line in it, for the split '{split}'"
        faults.append(Fault(Problem.EMPTY_SPLIT, path, detail))
    return list(items.values()), faults


def _file(folder: Path, name: str) -> Path:
    """The file of a list that was written here, on Windows, or where its folder lay elsewhere."""
    found = existing(folder / name)
    if found.is_file():
        return found
    path = PurePosixPath(name.replace("\\", "/"))
    whole = path.is_absolute() or ":" in path.parts[0]
    ends = range(1, len(path.parts)) if whole else (0,)
    tried = (existing(folder.joinpath(*path.parts[start:])) for start in ends)
    return next((file for file in tried if file.is_file()), found)


def _lines(path: Path) -> tuple[list[tuple[int, str]], list[Fault]]:
    """The numbered lines that say something; none where there is no list."""
    if not path.is_file():
        return [], []
    try:
        # Windows writes a byte order mark before the first path: of UTF-8 or of UTF-16.
        is_wide = path.read_bytes()[:2] in (BOM_UTF16_LE, BOM_UTF16_BE)
        text = path.read_text("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        return [], [Fault(Problem.UNREADABLE, path, f"not a text list: {error}")]
    numbered = ((n, line.strip()) for n, line in enumerate(text.splitlines(), start=1))
    return [(n, line) for n, line in numbered if line and not line.startswith("#")], []


def _named(items: list[Item], root: Path) -> tuple[Item, ...]:
    """The items, those that share a stem (0001.png of two folders) renamed by their whole path."""
    stems = Counter(item.name for item in items)
    return tuple(i if stems[i.name] == 1 else _qualified(i, root) for i in items)


def _qualified(item: Item, root: Path) -> Item:
    path = item.image.relative_to(root) if item.image.is_relative_to(root) else item.image
    parts = (part.strip("/\\:") for part in path.with_suffix("").parts)
    return Item("-".join(part for part in parts if part), item.image, item.label, item.edges)
