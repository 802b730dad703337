"""What is understood of an input, by the product's own readers; these run in the worker."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from runtime.accuracy.label_files import read_label
from runtime.backends.registry import load_engine
from runtime.bundle import class_list
from runtime.bundle.classes import IGNORE
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError
from runtime.images import read_rgb
from runtime.sources.open import open_source
from tests.equipment.pictures import CLASSES, picture
from tests.fuzz.worker import WrongAnswer, digest


def manifest(bundle: Path) -> str:
    """The manifest of a bundle; its names must be fit for files, lines and pictures."""
    loaded = Manifest.load(bundle)
    for name in (loaded.name, *loaded.classes.names, *loaded.files, *loaded.graphs.values()):
        if not name.isprintable() or ".." in Path(name).parts or Path(name).is_absolute():
            raise WrongAnswer(f"the name {name!r} is taken")
    return digest(repr(loaded))


def classes(path: Path) -> str:
    """A class list; every class that it names, in its order, with its ids, or none at all."""
    loaded = class_list.load(path)
    names, colors, ids, ignored = _said(json.loads(path.read_bytes(), object_pairs_hook=_once))
    taken = (list(loaded.names), list(loaded.label_ids), set(loaded.ignored))
    wrong = [
        own for own, said in zip(loaded.colors, colors, strict=True) if said not in (None, own)
    ]
    if taken != (names, ids, ignored) or wrong:
        raise WrongAnswer(f"{taken} {wrong} of {names, ids, ignored, colors}")
    return digest(repr(loaded))


_NOTES = {
    "category", "categoryid", "catid", "supercategory", "hasinstances", "isthing", "description",
    "name", "version",
}  # fmt: skip
_IGNORE = {"ignore", "ignoreid", "ignoreids", "ignoreindex", "ignorelabel", "ignorevalue"}


def _said(content: Any) -> tuple[list[str], list[Any], list[int], set[int]]:
    """Names, colours (None: not said), ids and ignored ids, as docs/reference/formats.md says."""
    wrapped = content if isinstance(content, dict) else {"classes": content}
    rows = [{"name": row} if isinstance(row, str) else row for row in wrapped["classes"]]
    unknown = wrapped.keys() - {"classes"} - _IGNORE - _NOTES
    for row in rows:
        unknown |= row.keys() - {"color", "colour", "id", "trainid", "ignoreineval"} - _NOTES
    if unknown:
        raise WrongAnswer(f"the keys {unknown} have no effect")
    given = next((wrapped[key] for key in wrapped.keys() & _IGNORE), None)
    ignored = set(given if isinstance(given, list) else [given]) - {None}
    kept = []
    for at, row in enumerate(rows):
        value = _first(row.get("id"), row.get("trainid"), at)
        order = _first(row.get("trainid"), row.get("id"), at)
        untrained = row.get("trainid") is not None and not 0 <= order < IGNORE
        if untrained or value in ignored:
            ignored.add(value)
        else:
            kept.append((order, value, row))
    kept.sort(key=lambda entry: entry[0])
    return (
        [unicodedata.normalize("NFC", row["name"]).strip() for *_, row in kept],
        [_color(row.get("color", row.get("colour"))) for *_, row in kept],
        [value for _, value, _ in kept],
        {value for value in ignored if 0 <= value != IGNORE},
    )


def _color(said: Any) -> Any:
    if isinstance(said, str):
        return tuple(bytes.fromhex(said[1:]))
    return said if said is None else tuple(said)


def _first(*choices: Any) -> Any:
    return next(choice for choice in choices if choice is not None)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {key.lower().replace("_", "").replace("-", ""): value for key, value in pairs}
    if len(found) < len(pairs):
        raise WrongAnswer(f"a key that occurs twice is taken: {[key for key, _ in pairs]}")
    return found


def data_list(path: Path) -> str:
    """A list file: every line that says something is a pair of files, or a fault."""
    from train.datasets.listfile import survey

    found = survey(path, "train")
    if found.faults:
        raise HedgeError(str(found.faults[0]))
    raw = path.read_bytes()
    text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    lines = [line.strip() for line in text.splitlines()]
    said = [[f.strip() for f in line.split(",")] for line in lines if line and line[0] != "#"]
    items = found.index.items
    taken = [[item.image, item.label] + ([item.edges] if item.edges else []) for item in items]
    if [[path.parent / field for field in fields] for fields in said] != taken:
        raise WrongAnswer(f"{taken} of {said}"[:300])
    pixels = [array.tobytes() for item in items for array in found.index.read(item)]
    return digest(*pixels)


def image(path: Path) -> str:
    """The pixels of an image."""
    pixels = read_rgb(path)
    return digest(str(pixels.shape), pixels.tobytes())


def label(path: Path) -> str:
    """The ids of a label image."""
    ids = read_label(path, CLASSES)
    return digest(str(ids.shape), ids.tobytes())


def checkpoint(path: Path) -> str:
    """All that a checkpoint holds."""
    from train.checkpoint import Checkpoint

    loaded = Checkpoint.load(path)
    weights = [(n, str(w.dtype), w.numpy().tobytes().hex()) for n, w in loaded.weights.items()]
    rest = (loaded.config, loaded.model, loaded.classes, loaded.size, loaded.epoch, loaded.step)
    return digest(repr(rest), repr(weights), repr(loaded.training))


def network(path: Path) -> str:
    """A checkpoint whose digest is right, as a network; it may be anything but an accident."""
    from train.checkpoint import Checkpoint
    from train.evaluation.scoring import load_model

    load_model(Checkpoint.load(path))
    return "a network"


def openvino(bundle: Path) -> str:
    """The labels of a bundle, by OpenVINO."""
    return _answer(bundle, "openvino")


def onnxruntime(bundle: Path) -> str:
    """The labels of a bundle, by ONNX Runtime."""
    return _answer(bundle, "onnxruntime")


def _answer(bundle: Path, backend: str) -> str:
    engine = load_engine(bundle, backend, threads=1)
    try:
        labels = engine.infer(np.stack([picture()]))
    finally:
        engine.close()
    if labels.max() >= len(engine.manifest.classes):
        raise WrongAnswer(f"class {labels.max()} of {len(engine.manifest.classes)}")
    return digest(labels.tobytes())


def video(path: Path) -> str:
    """The number of a video's frames; what it tells of itself counts as a refusal."""
    with open_source(str(path)) as source:
        count = sum(frame.image.ndim == 3 for frame in source)
        if (complaint := source.complaint()) is not None:
            raise HedgeError(complaint)
    return f"{count} frames"
