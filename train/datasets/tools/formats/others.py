"""Formats that are not read: what tells them, and what to export or to make of them instead."""

from __future__ import annotations

from pathlib import Path

from train.datasets.tools.tree import Tree, has_keys

_COCO = "export it as COCO"
_TEXTS = (".json", ".ndjson", ".jsonl")
_SNIFFED = 20  # files of a tree that are looked into

# A name, the keys that only such a file has, and the way out.
_KEYS = (
    ("COCO panoptic", ("segments_info",), "make COCO of it with panopticapi's "
     "converters/panoptic2detection_coco_format.py"),
    ("VGG Image Annotator", ("shape_attributes", "region_attributes"), _COCO),
    ("Label Studio's JSON", ("from_name", "to_name"), _COCO),
    ("Labelbox", ("data_row", "media_attributes"), "convert it to COCO or to mask pictures"),
    ("V7 Darwin", ("slot_names", "annotations"), _COCO),
    ("Segments.ai", ("samples", "task_type"), _COCO + " with its SDK's export_dataset"),
    ("Hasty", ("label_classes", "export_format_version"), _COCO),
    ("SuperAnnotate", ("className", "instances"), _COCO + " with its SDK"),
    ("Ultralytics' NDJSON", ("class_names", "task"), "make YOLO of it with its "
     "convert_ndjson_to_yolo"),
    ("Kili", ("jsonResponse",), _COCO),
    ("Encord", ("objectHash", "featureHash"), _COCO),
    ("nnU-Net", ("file_ending", "labels"), 'lay it out as images/train/, labels/train/ (and val/) '
     'with the "labels" of dataset.json in a classes.json'),
)  # fmt: skip
_FILES = (
    "write each image and its label as a picture of one name, in images/train/ and labels/train/"
)
_ENDINGS = (
    ("ADE20K with parts", "_parts_1.png", "take SceneParsing, ADEChallengeData2016.zip"),
    ("Parquet", ".parquet", _FILES),
    ("Arrow", ".arrow", _FILES),
    ("TFRecord", ".tfrecord", _FILES),
    ("labels in MATLAB's files", ".mat", _FILES),
    ("labels as NumPy's arrays", ".npy", _FILES),
)  # fmt: skip


def advice(tree: Tree) -> str:
    """A sentence that says what a tree holds and what to do with it; "" where nothing is known."""
    for path in [path for path in tree.files if path.suffix.lower() in _TEXTS][:_SNIFFED]:
        if told := of_text(path, tree.sniff(path)):
            return told
    for name, ending, way in _ENDINGS:
        if found := next((path for path in tree.files if path.name.endswith(ending)), None):
            return f"{found}: {name}, which is not read; {way}"
    return ""


def of_text(path: Path, data: bytes) -> str:
    """The same of the beginning and the end of one JSON file."""
    for name, keys, way in _KEYS:
        if has_keys(data, *keys):
            return f"{path}: {name}, which is not read; {way}"
    return ""
