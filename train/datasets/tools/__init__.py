"""What labelling tools export as data sets: recognised by content, converted once into a cache."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from runtime import cli, files
from runtime.errors import HedgeError, OutputError
from train.datasets import cityscapes, folder, listfile
from train.datasets.index import Layout, Survey, split_of
from train.datasets.tools import archive, cache
from train.datasets.tools.convert import Origin, convert
from train.datasets.tools.export import Tool
from train.datasets.tools.formats import TOOLS, colors, others
from train.datasets.tools.tree import Tree

PLAIN: tuple[Layout, ...] = (cityscapes.LAYOUT, folder.LAYOUT, listfile.LAYOUT)

SOURCE = "source.json"  # beside what was converted
# Files that stand for the folder they lie in.
_INDEXES = {".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml"}
_DEEPEST = 4  # folders around an export


def is_export(data: Path) -> bool:
    """Whether ``data`` is what a tool exports, or a zip."""
    return archive.is_archive(data) or _found(_tree(data)) is not None


def prepared(data: Path, quiet: bool = False) -> tuple[Path, Origin | None]:
    """Where the data set lies that ``data`` holds, and what it was converted from, if it was.

    quiet: say nothing. HedgeError names a file that cannot be converted, its cause and the fix.
    """
    if archive.is_archive(data):
        place = cache.place_of_archive(data)
    else:
        tree = _tree(data)
        if _found(tree) is None:
            return (tree.root if data.is_dir() else data), None
        place = cache.place_of_tree(tree)
    if not place.is_dir():
        _fill(data, place, quiet)
    origin = place / SOURCE
    if origin.is_file():
        return place, msgspec.json.decode(origin.read_bytes(), type=Origin)
    return place, None


def labelled(data: Path) -> int:
    """How many pictures below ``data`` have a label picture beside them, of unknown classes."""
    return colors.count(_tree(data)) if data.is_dir() else 0


def advice(data: Path) -> str:
    """What to do with ``data`` in a format that is not read; "" where it is none that is known."""
    return others.advice(_tree(data)) if data.is_dir() or data.suffix in _INDEXES else ""


def unusable(data: Path) -> Path | None:
    """The first picture below ``data`` that lies where labels do, in a format they cannot have."""
    return colors.unusable(_tree(data)) if data.is_dir() else None


def with_origin(found: Survey, origin: Origin) -> Survey:
    """The survey of a converted data set, named after its tool and with the export's own faults."""
    split = found.index.split
    own = [each.fault() for each in origin.findings if each.split in ("", split)]
    return Survey(replace(found.index, layout=origin.tool), (*own, *found.faults))


def _fill(data: Path, place: Path, quiet: bool) -> None:
    """Convert ``data`` into ``place``, unless another process has just done so."""
    with cache.alone(place):
        if place.is_dir():
            return
        try:
            made = _made(data, place, quiet)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OutputError(
                f"{place.parent}: {error.strerror}; converted data sets are kept there, make room "
                "or set HEDGE_CACHE to another disk"
            ) from error
    if not quiet:
        cli.say(f"{data}: {made.tool}, converted once → {place}", cli.err)
        for sentence in made.sentences:
            cli.say(f"  {sentence}", cli.err)
        for sentence in made.warnings:
            cli.warn(f"{data}: {sentence}")


def _made(data: Path, place: Path, quiet: bool) -> _Made:
    """Convert ``data`` beside ``place``, and move it there when it is whole."""
    with files.temporary_folder(place) as scratch:
        source = _unpacked(data, scratch / "unpacked")
        try:
            made = _converted(source, data, scratch / "converted", quiet)
        except HedgeError as error:  # the folder that it names will be gone
            raise HedgeError(str(error).replace(str(source), str(data))) from error
        files.replace_folder(made.folder, place)
    return made


@dataclass(frozen=True)
class _Made:
    """A data set made of an export, and what is to be said of it."""

    folder: Path
    tool: str = "a data set"
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _converted(source: Path, data: Path, target: Path, quiet: bool) -> _Made:
    """What lies at ``source`` and is called ``data`` as a data set, at ``target`` if possible."""
    tree = _tree(source)
    tool = _found(tree)
    if tool is None:
        if cityscapes.fits(tree.root):
            cityscapes.require_both(tree.root)  # each of the official zips is a half
        if any(layout.fits(tree.root) for layout in PLAIN):
            return _Made(tree.root)
        if told := others.advice(tree):
            raise HedgeError(told)
        raise HedgeError(f"{data}: no data set in it that is known")
    target.mkdir()
    export = tool.read(tree)
    findings, sentences = convert(export, tree, data, target, quiet)
    called = (each.called(str(source), str(data)) for each in findings)
    origin = Origin(tool.name, str(data), tuple(called))
    (target / SOURCE).write_bytes(msgspec.json.format(msgspec.json.encode(origin)))
    return _Made(target, tool.name, sentences, export.notes)


def _unpacked(data: Path, target: Path) -> Path:
    """``data`` itself, or the folder that it is unpacked into."""
    if not archive.is_archive(data):
        return data
    target.mkdir()
    archive.unpack(data, target)
    return target


def _tree(data: Path) -> Tree:
    """The tree of a folder, or of the folder around a file that describes one."""
    if data.is_file():
        is_index = data.suffix.lower() in _INDEXES
        return Tree(data.parent, data) if is_index else Tree(data)
    root = data
    for _ in range(_DEEPEST):  # zips often hold one folder, and that the data set
        inside = [path for path in _visible(root) if path.name != "__MACOSX"]
        if (
            len(inside) != 1
            or not inside[0].is_dir()
            or _is_plain(root)
            or split_of(inside[0].name)
        ):
            break
        root = inside[0]
    return Tree(root)


def _visible(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if not path.name.startswith(".")]


def _is_plain(root: Path) -> bool:
    """Whether a folder needs no conversion, whatever else lies in it."""
    return cityscapes.fits(root) or folder.is_whole(root)


def _found(tree: Tree) -> Tool | None:
    """The tool that a tree comes from; None where it is laid out as training reads it."""
    if not tree.root.is_dir() or (_is_plain(tree.root) and not tree.chosen):
        return None
    return next((tool for tool in TOOLS if tool.fits(tree)), None)
