"""The files of an export, found by name wherever the tool has put them."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import unquote

import msgspec

from runtime.errors import HedgeError
from runtime.files import composed
from runtime.images import IMAGE_SUFFIXES
from train.datasets.index import split_of

# What labels are written in, beside pictures.
TEXT_SUFFIXES = {".csv", ".json", ".names", ".txt", ".xml", ".yaml", ".yml"}

Kind = TypeVar("Kind")
_SNIFFED = 1 << 16  # bytes at either end of a JSON file that tell what it is
_LARGEST = 4 << 30  # of a file of labels: more would not fit into memory as it is parsed


@dataclass(frozen=True)
class Tree:
    """A folder, and the one file in it that was named instead of the folder, if one was."""

    root: Path
    chosen: Path | None = None

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """All visible files, sorted; none that a link outside of the tree would lead to."""
        found: list[Path] = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = sorted(n for n in folders if not n.startswith(".") and n != "__MACOSX")
            found += (Path(folder, n) for n in sorted(names) if not n.startswith("."))
        return tuple(found)

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """The files whose suffix is that of a picture."""
        return tuple(path for path in self.files if path.suffix.lower() in IMAGE_SUFFIXES)

    def of(self, *suffixes: str) -> list[Path]:
        """The files with one of these suffixes, or the chosen one alone where it has one."""
        if self.chosen and self.chosen.suffix.lower() in suffixes:
            return [self.chosen]
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def find(self, name: str, beside: Path, split: str = "") -> Path | None:
        """The picture that an export calls ``name`` in a file of the folder ``beside``.

        Its suffix may be left out, as CVAT does with the frames of a video.
        Tools write paths of their own machines: the picture of this file name is taken whose path
        shares most of its end with ``name``; of several the one in a folder of ``split``, then the
        nearest to ``beside``. It is always one of the tree.
        """
        wanted = _parts(name)
        for parts in (wanted, _parts(unquote(name))):
            candidates = self._by_name.get(parts[-1] if parts else "", [])
            if candidates:
                return max(candidates, key=lambda path: self._rank(path, parts, beside, split))
        return None

    def folders(self, name: str) -> list[Path]:
        """The folders of pictures that an export calls ``name``: their path ends so, or is its end,
        of which "images" alone says nothing."""
        wanted = _parts(name)[::-1]
        above = {folder for path in self.images for folder in path.relative_to(self.root).parents}
        found = []
        for folder in above:
            own = tuple(map(composed, reversed(folder.parts)))
            ends = _shared(own, wanted) == min(len(own), len(wanted)) > 0
            if ends and (own != ("images",) or own == wanted):
                found.append(self.root / folder)
        return found

    def split(self, path: Path) -> str:
        """The split that a folder on the way to ``path`` is named after, the nearest one.

        "city_train" is one beside "city_val", "train_images" beside "val_images"; alone they may be
        of anything.
        """
        parts = path.relative_to(self.root).parts[:-1]
        named = (split_of(part) or self._twins.get(part, "") for part in reversed(parts))
        return next(filter(None, named), "")

    @cached_property
    def _twins(self) -> dict[str, str]:
        """The splits of folders by their names, of which one word alone tells train from val."""
        folders = {name for path in self.images for name in path.relative_to(self.root).parts[:-1]}
        alike: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
        for name in folders:
            words = re.split("[_ -]", name)
            for i, split in enumerate(map(split_of, words)):
                if split:
                    key = (*words[:i], "", *words[i + 1 :])
                    alike[key][name] = split
        both = (group for group in alike.values() if {"train", "val"} <= {*group.values()})
        return {name: split for group in both for name, split in group.items()}

    def splits(self, paths: Sequence[Path]) -> list[str]:
        """The split of each of some files of labels: a word of its name, else its folder's.

        Any word where the names tell train from others ("train_annotations", "val_annotations"),
        else the last one: "test_drive" alone may hold anything.
        """
        words = [reversed(re.split("[^A-Za-z0-9]+", path.stem)) for path in paths]
        told = [next(filter(None, map(split_of, each)), "") for each in words]
        if not {"train"} < set(told):
            told = [split_of(path.stem.rpartition("_")[2]) for path in paths]
        return [own or self.split(path) for own, path in zip(told, paths, strict=True)]

    def sniff(self, path: Path) -> bytes:
        """The beginning and the end of a file: enough to tell what it is."""
        with path.open("rb") as file:
            head = file.read(_SNIFFED)
            file.seek(max(path.stat().st_size - _SNIFFED, len(head)))
            return head + file.read(_SNIFFED)

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        table: dict[str, list[Path]] = defaultdict(list)
        for path in self.images:
            for name in {path.name, _bare(path)}:
                table[composed(name)].append(path)
        return table

    def likeness(self, path: Path, name: str) -> int:
        """How many parts at the end of ``path`` are those of the name that an export has for it."""
        wanted = _parts(name)
        if wanted[-1:] == (composed(_bare(path)),):
            path = path.with_name(_bare(path))
        own = tuple(composed(part) for part in path.relative_to(self.root).parts)
        return _shared(own[::-1], wanted[::-1])

    def _rank(
        self, path: Path, wanted: tuple[str, ...], beside: Path, split: str
    ) -> tuple[int, bool, int, int]:
        shared, depth = self.likeness(path, "/".join(wanted)), len(path.parts)
        return shared, self.split(path) == split, _shared(path.parts, beside.parts), -depth


def has_keys(data: bytes, *keys: str, least: int | None = None) -> bool:
    """Whether the JSON text holds (at least ``least`` of) these keys of objects."""
    found = sum(bool(re.search(rb'"%s"\s*:' % key.encode(), data)) for key in keys)
    return found >= (len(keys) if least is None else least)


def read_json(path: Path, kind: type[Kind], what: str) -> Kind:
    """A JSON file as ``kind``; HedgeError names the first thing that is not as it should be."""
    try:
        if path.stat().st_size > _LARGEST:
            raise HedgeError(f"{path}: larger than {_LARGEST >> 30} GiB; export it in parts")
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HedgeError(f"{path}: not {what}: {error}; export it again") from error


def read_text(path: Path) -> str:
    """A text file; HedgeError where it is none."""
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HedgeError(f"{path}: not a text file: {error}; save it as UTF-8") from error


def _bare(path: Path) -> str:
    """The name of a picture without its suffix; "a.jpg.png" is never called "a.jpg"."""
    return path.name if Path(path.stem).suffix.lower() in IMAGE_SUFFIXES else path.stem


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a path as Windows, Unix or a URL writes it, without those that go up."""
    path = PurePosixPath(composed(name).replace("\\", "/"))
    return tuple(part for part in path.parts if part not in ("/", "..", "."))


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many parts at the beginning are the same."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
