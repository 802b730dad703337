"""Exports of labelling tools, each small, whose texts and zip files are damaged."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from runtime.errors import HedgeError
from tests.equipment.pictures import CLASSES, picture
from tests.fuzz.case import Case, Cases
from tests.fuzz.mutations import changed, changes, edited, edits, written
from tests.fuzz.worker import digest

_SIZE = (48, 64)
_RING: list[list[float]] = [[5, 5], [40, 8], [30.5, 40], [6, 30]]
_FLAT = [value for point in _RING for value in point]


def export(path: Path) -> str:
    """All labels of an export; a fault of a single picture counts as a refusal."""
    from train.datasets import survey

    with tempfile.TemporaryDirectory() as cache:
        os.environ["HEDGE_CACHE"] = cache
        found = [survey(path, split, quiet=True) for split in ("train", "val")]
        if faults := [fault for each in found for fault in each.faults]:
            raise HedgeError(str(faults[0]))
        pixels = [
            a.tobytes() for each in found for i in each.index.items for a in each.index.read(i)
        ]
    return digest(*pixels)


def exports(folder: Path) -> Cases:
    """Trees of JSON with nonsense in them, and texts and zip files with damaged bytes."""
    sets = _sets()
    jsons = [
        (name, text) for name, files in sets.items() for text in files if text.endswith("json")
    ]
    texts = [(name, text) for name, files in sets.items() for text in files if text[-3:] != "png"]

    def nonsense(at: tuple[str, str], done: Any) -> Case:
        files = dict(sets[at[0]])
        files[at[1]] = written(changed(json.loads(files[at[1]]), done))
        return Case(files, "", export, f"{at} {done}")

    def damage(at: tuple[str, str], done: Any) -> Case:
        files = dict(sets[at[0]])
        files[at[1]] = edited(files[at[1]], done)
        return Case(files, "", export, f"{at} {done}")

    def zipped(name: str, done: Any) -> Case:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, content in sets[name].items():
                archive.writestr(f"export/{path}", content)
        return Case({"e.zip": edited(data.getvalue(), done)}, "e.zip", export, f"zip {name} {done}")

    return (
        st.builds(nonsense, st.sampled_from(jsons), changes())
        | st.builds(damage, st.sampled_from(texts), edits())
        | st.builds(zipped, st.sampled_from(sorted(sets)), edits())
    )


def _sets() -> dict[str, dict[str, bytes]]:
    photo = _png(picture(0, _SIZE)[..., ::-1])
    mask = _png(picture(0, _SIZE).argmax(axis=2).astype(np.uint8))
    photos = {f"images/{split}/{split}.png": photo for split in ("train", "val")}
    height, width = _SIZE
    names = [*CLASSES.names]
    runs = {"size": [height, width], "counts": [100, 200, height * width - 300]}
    rows: list[dict[str, Any]] = [{"segmentation": [_FLAT]}, {"segmentation": runs, "iscrowd": 1}]
    coco = {
        "images": [{"id": i, "file_name": f"{s}.png", "height": height, "width": width}
                   for i, s in enumerate(("train", "val"))],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [{"image_id": i, "category_id": j, "id": 2 * i + j} | row
                        for i in range(2) for j, row in enumerate(rows)],
    }  # fmt: skip
    labelme: dict[str, Any] = {
        "imageHeight": height, "imageWidth": width, "imageData": None,
        "shapes": [{"label": names[0], "points": _RING, "shape_type": "polygon"},
                   {"label": names[1], "points": _RING[:2], "shape_type": "circle"}],
    }  # fmt: skip
    polygon = {"classTitle": names[0], "geometryType": "polygon",
               "points": {"exterior": _RING, "interior": []}}  # fmt: skip
    supervisely: dict[str, Any] = {
        "size": {"height": height, "width": width},
        "objects": [polygon],
        "tags": [],
    }
    points = ";".join(f"{x},{y}" for x, y in _RING)
    images = "".join(
        f'<image id="0" name="{split}.png" subset="{split}" width="{width}" height="{height}">'
        f'<polygon label="{names[0]}" points="{points}" z_order="1"/>'
        f'<mask label="{names[1]}" rle="1, 2, 1" left="3" top="4" width="2" height="2"/></image>'
        for split in ("train", "val")
    )
    line = " ".join(str(value / 64) for value in _FLAT)
    listed = "".join(f"{name}:{i},{i},9::\n" for i, name in enumerate(names))
    bdd = [{"name": f"{split}.png", "labels": [{"category": "car", "poly2d": [
        {"vertices": _RING, "types": "LCCC"}]}]} for split in ("train", "val")]  # fmt: skip
    return {
        "coco": photos | {"result.json": _json(coco)},
        "labelme": photos | {
            f"images/{s}/{s}.json": _json(labelme | {"imagePath": f"{s}.png"})
            for s in ("train", "val")},
        "supervisely": {"meta.json": _json({"classes": [{"title": n} for n in names]})} | {
            path: data for s in ("train", "val") for path, data in
            ((f"{s}/img/a{s}.png", photo), (f"{s}/ann/a{s}.png.json", _json(supervisely)))},
        "cvat": photos | {"annotations.xml": f"<annotations>{images}</annotations>".encode()},
        "yolo": photos | {"data.yaml": _json({"names": names})} | {
            f"labels/{s}/{s}.txt": f"0 {line}\n1 {line}\n".encode() for s in ("train", "val")},
        "voc": {"labelmap.txt": listed.encode()} | {
            path: data for s in "ab" for path, data in
            ((f"JPEGImages/{s}.png", photo), (f"SegmentationClass/{s}.png", mask))},
        "bdd": photos | {"labels.json": _json(bdd)},
    }  # fmt: skip


def _json(tree: object) -> bytes:
    return json.dumps(tree).encode()


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()
