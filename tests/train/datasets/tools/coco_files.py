"""Exports as COCO, written here with pycocotools' own run lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from tests.train.datasets.tools.scenes import NAMES, SIZE, Thing, photo

Json = dict[str, Any]
CATEGORIES = [{"id": 10 * i, "name": name} for i, name in enumerate(NAMES) if i]


def polygons(things: tuple[Thing, ...]) -> list[Json]:
    return [{"segmentation": [thing.flat()]} for thing in things]


def runs(masks: dict[str, np.ndarray], packed: bool) -> list[Json]:
    found = []
    for mask in masks.values():
        rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        counts: Any = rle["counts"].decode()
        if not packed:
            flat = mask.T.ravel()
            edges = np.flatnonzero(np.diff(flat, prepend=False, append=not flat[-1]))
            counts = np.diff(edges, prepend=0).tolist()
        found.append({"segmentation": {"size": list(SIZE), "counts": counts}})
    return found


def write(
    path: Path,
    pictures: list[str],
    shapes: list[Json],
    names: list[str],
    categories: list[Json] | None = None,
) -> Path:
    """A file in which each picture has the same shapes, of the classes ``names``."""
    ids = {row["name"]: row["id"] for row in CATEGORIES}
    rows = [{"id": i, "file_name": n, "height": SIZE[0], "width": SIZE[1]} for i, n in
            enumerate(pictures)]  # fmt: skip
    annotations = [
        {"id": len(shapes) * i + j, "image_id": i, "category_id": ids[name], "iscrowd": 0} | shape
        for i in range(len(pictures))
        for j, (shape, name) in enumerate(zip(shapes, names, strict=True))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": rows, "categories": categories or CATEGORIES, "annotations": annotations}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def export(root: Path, shapes: list[Json], names: list[str], count: int = 2) -> Path:
    """A set in Roboflow's layout: train/ with ``count`` pictures and valid/ with one."""
    for split, stems in (("train", [f"Straße {i}" for i in range(count)]), ("valid", ["v"])):
        for seed, stem in enumerate(stems):
            photo(root / split / f"{stem}.png", hash((split, seed)) % 1000)
        write(root / split / "_annotations.coco.json", [f"{s}.png" for s in stems], shapes, names)
    return root
