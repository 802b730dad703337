"""The manifest: round trip, and every kind of damage found before a model parser runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper

from runtime.bundle.classes import ClassSet
from runtime.bundle.manifest import Manifest, newest_bundle
from runtime.bundle.shipped import find_bundle
from runtime.errors import HedgeError
from tests.equipment.bundles import resign

Make = Callable[..., Path]


def flip_bit(path: Path, at: int) -> None:
    """Invert the lowest bit of one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(data)


def test_round_trip(bundle: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(bundle)
    (bundle / "manifest.json").unlink()
    manifest.save(bundle)
    assert Manifest.load(bundle) == manifest
    assert manifest.input.shape == (1, 24, 32, 3)
    assert manifest.classes.colors[2] == (255, 0, 0)


@pytest.mark.parametrize("at", [0, 100, -1])
def test_one_flipped_bit_in_the_model_is_found(bundle: Path, at: int) -> None:
    flip_bit(bundle / "model.onnx", at)
    with pytest.raises(HedgeError, match=r"model\.onnx.*sha256"):
        Manifest.load(bundle)


def test_one_flipped_bit_anywhere_in_the_manifest_is_found(bundle: Path) -> None:
    path = bundle / "manifest.json"
    whole = path.read_bytes()
    blank = set(b" \n")
    for at in range(0, len(whole), 7):
        if whole[at] in blank:
            continue  # space between the fields carries nothing
        path.write_bytes(whole)
        flip_bit(path, at)
        with pytest.raises(HedgeError, match=r"manifest\.json|missing"):
            Manifest.load(bundle)


def test_a_missing_file_of_the_bundle_is_named(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    with pytest.raises(HedgeError, match=r"model\.onnx: missing"):
        Manifest.load(bundle)


def test_a_path_without_manifest_is_no_bundle(bundle: Path, tmp_path: Path) -> None:
    (packed := tmp_path / "packed.zip").touch()
    for path, told in (
        (bundle.parent, rf"a folder of them; name one: {bundle.name}$"),
        (tmp_path / "none", "no such folder"),
        (tmp_path, r"not a bundle \(no manifest\.json\); make one"),
        (bundle / "manifest.json", f"a file, and a bundle is a folder; name its folder, {bundle}$"),
        (packed, r"packed\.zip: a file, and a bundle is a folder; unpack it"),
    ):
        with pytest.raises(HedgeError, match=told):
            Manifest.load(path)


def forge(bundle: Path, *keys: str | int, value: Any) -> None:
    """Change a value of the manifest, or drop it (None), and sign the result as export would."""
    fields = msgspec.json.decode((bundle / "manifest.json").read_bytes())
    place = fields
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    content = msgspec.json.encode(fields | {"digest": ""}, order="deterministic")
    fields["digest"] = hashlib.sha256(content).hexdigest()
    (bundle / "manifest.json").write_bytes(msgspec.json.encode(fields))


SCORES = {"name": "logits", "shape": [1, 3, 6, 8], "dtype": "float32", "layout": "NCHW"}
SCORES |= {"color_order": None}
FORGED: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "no files": (("files",), {}, r"no sha256 of model\.onnx"),
    "outside": (("files", "../../secret"), "0" * 64, "outside the bundle"),
    "absolute": (("files", "/etc/passwd"), "0" * 64, "outside the bundle"),
    "NUL in a file": (("files", "a\0b"), "0" * 64, r"a file name is .*a\\x00b"),
    "no hash": (("files", "model.onnx"), "0", r"files"),
    "an unsealed graph": (("graphs",), {"openvino": "x.onnx"}, r"without a sha256: \W*x\.onnx"),
    "a folder as name": (("name",), "../../../x", "none for a folder"),
    "a hidden name": (("name",), ".x", "none for a folder"),
    "an empty name": (("name",), "", "the name is"),
    "NUL in the name": (("name",), "a\0", r"the name is .*a\\x00"),
    "300 characters": (("name",), "x" * 300, "1 to 100 characters"),
    "escape codes": (("classes", "names", 0), "\x1b[2J", "a class name is .*control"),
    "two lines": (("classes", "names", 0), "a\nb", "a class name is .*control"),
    "a long class": (("classes", "names", 0), "x" * 300, "1 to 100 characters"),
    "codes in a version": (("built_with",), {"torch": "\x1b[2J"}, "control codes"),
    "too few names": (("classes", "names"), ["a", "b"], "2 class names but 3 colours"),
    "a colour too bright": (("classes", "colors", 0), [0, 0, 256], "0-255"),
    "no classes": (("classes",), {"names": [], "colors": []}, "1 to 255 classes"),
    "another precision": (("precision",), "int4", "precision"),
    "RGB": (("input", "color_order"), "RGB", "color_order"),
    "no colour order": (("input", "color_order"), None, "BGR"),
    "float frames": (("input", "dtype"), "float32", "uint8 BGR"),
    "NCHW frames": (("input", "layout"), "NCHW", "NHWC"),
    "negative": (("input", "shape"), [1, -24, 32, 3], "shape"),
    "zero": (("input", "shape"), [1, 0, 32, 3], "shape"),
    "huge": (("input", "shape"), [1, 10**12, 32, 3], "shape"),
    "empty": (("input", "shape"), [], r"\(N, H, W, 3\), not \(\)"),
    "four channels": (("input", "shape"), [1, 24, 32, 4], r"\(N, H, W, 3\)"),
    "a text as side": (("input", "shape"), [1, "24", 32, 3], "shape"),
    "not a number": (("input", "shape"), [1, 24.5, 32, 3], "shape"),
    "other labels": (("output", "shape"), [1, 24, 33], "labels .* for frames"),
    "int64 labels": (("output", "dtype"), "int64", "dtype"),
    "scores of other classes": (("logits",), SCORES | {"shape": [1, 19, 6, 8]}, "for 3 classes"),
    "scores in float16": (("logits",), SCORES | {"dtype": "uint8"}, "scores are float32"),
    "scores too large": (("logits",), SCORES | {"shape": [1, 3, 6, 800]}, "larger than the labels"),
    "scores the graph lacks": (("logits",), SCORES, r'model\.onnx: has no tensor "logits"'),
    "another input": (("input", "name"), "image", r'model\.onnx: its inputs are not .*"image"'),
    "another output": (("output", "name"), "mask", r'has no tensor "mask"'),
    "measured of other types": (("measured",), {"miou_by_backend": 3}, "miou_by_backend"),
    "an mIoU of 200 %": (("measured",), {"miou": 2.0}, "miou"),
    "a search of no name": (("measured",), {"int8": {"layers": 9, "kept": 3}}, "kept"),
    "a frame as a number": (("measured",), {"worst_frame": {"onnxruntime": 3}}, "worst_frame"),
    "calibrated with a number": (("calibration",), {"images": 3}, "images"),
    "a list": (("classes", "names"), {"a": 1}, "classes"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_signed_manifest_is_refused_for_its_cause(kind: str, bundle: Path) -> None:
    keys, value, cause = FORGED[kind]
    forge(bundle, *keys, value=value)
    with pytest.raises(HedgeError, match=cause) as caught:
        Manifest.load(bundle)
    text = str(caught.value)
    assert str(bundle) in text and text.isprintable() and len(text) < len(str(bundle)) + 350


LATER = {"miou": None, "images": 3, "iou": {}, "energy": {"joules": 1.5}, "foreign": {"a": 1}}
LATER |= {"int8": {"layers": 9, "kept": ["a"], "margin": [1]}, "latency_ms": {"ov": {"p50": 4}}}


def test_what_a_later_version_measured_survives_a_rewrite(bundle: Path) -> None:
    forge(bundle, "measured", value=LATER)
    manifest = Manifest.load(bundle)
    assert manifest.measured.images == 3 and manifest.measured.miou_in("openvino") is None
    assert manifest.measured.int8 is not None and manifest.measured.int8.kept == ("a",)
    measured = msgspec.structs.replace(manifest.measured, iou={"b": 0.5}, miou=0.25)
    replace(manifest, measured=measured, license="CC0").save(bundle)
    assert Manifest.load(bundle).license == "CC0"
    written = json.loads((bundle / "manifest.json").read_bytes())["measured"]
    assert written == LATER | {"iou": {"b": 0.5}, "miou": 0.25}
    flip_bit(bundle / "manifest.json", (bundle / "manifest.json").read_bytes().index(b"joules"))
    with pytest.raises(HedgeError, match="changed after it was written"):
        Manifest.load(bundle)


def test_the_shipped_manifest_is_written_as_it_was(tmp_path: Path) -> None:
    """Byte for byte, and so with the same digest."""
    shipped = find_bundle(Path("street19"))
    Manifest.load(shipped).save(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == (shipped / "manifest.json").read_bytes()


@pytest.mark.parametrize("shape", [(1, 24, 64, 3), (2, 24, 32, 3)])
def test_shapes_are_those_of_the_graph(shape: tuple[int, ...], bundle: Path) -> None:
    """Both sides of the manifest agree, but the file is of 24×32."""
    manifest = Manifest.load(bundle)
    frames = replace(manifest.input, shape=shape)
    labels = replace(manifest.output, shape=shape[:3])
    replace(manifest, input=frames, output=labels).save(bundle)
    with pytest.raises(
        HedgeError, match=r'"frame" is uint8 \(1, 24, 32, 3\), but uint8 .*manifest'
    ):
        Manifest.load(bundle)


def test_huge_frames_are_refused_before_anything_is_allocated(bundle: Path) -> None:
    manifest = Manifest.load(bundle)
    frames = replace(manifest.input, shape=(64, 32768, 32768, 3))
    with pytest.raises(HedgeError, match="256 Mi pixels"):
        replace(manifest, input=frames, output=replace(manifest.output, shape=frames.shape[:3]))


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"[" * 1_000_000, "nested too deep"),
        (b'{"a":' * 1_000_000, "nested too deep"),
        (b'{"measured": {"miou": NaN}}', "unreadable"),
        (b'{"name": "a", "name": "b"}', 'key "name" occurs twice'),
        (b"", "unreadable"),
        (b"\xff\xfe{}", "unreadable"),
        (b"[]", "unreadable"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "unreadable"),
        (b" " * (17 << 20), "larger than 16 MiB"),
    ],
    ids=["list", "object", "NaN", "twice", "empty", "UTF-16", "no object", "digits", "large"],
)
def test_what_is_no_manifest_is_one_line(content: bytes, cause: str, bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(HedgeError, match=cause) as caught:
        Manifest.load(bundle)
    assert str(caught.value).isprintable()


def test_a_key_that_occurs_twice_is_refused_though_its_last_value_is_signed(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"{", b'{"precision": "int8",', 1))
    with pytest.raises(HedgeError, match='"precision" occurs twice'):
        Manifest.load(bundle)


def test_a_file_that_no_hash_covers_is_named(bundle: Path) -> None:
    (bundle / "engines").mkdir()
    (bundle / "engines" / "auto.json").write_text("[]")
    (bundle / ".DS_Store").touch()
    (bundle / "golden").mkdir()
    (bundle / "golden" / "._0.png").touch()  # as macOS writes beside each file on a stick
    Manifest.load(bundle)
    (bundle / "weights.bin").touch()
    with pytest.raises(HedgeError, match=r"weights\.bin: not in the manifest"):
        Manifest.load(bundle)


@pytest.mark.parametrize("place", ["initializer", "constant", "branch"])
def test_tensors_in_other_files_are_refused(place: str, bundle: Path) -> None:
    """The digest covers the model's file, not those that the model names."""
    model = onnx.load(bundle / "model.onnx")
    outside = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=1)
    outside.external_data.add(key="location", value="../../secret")
    if place == "initializer":
        model.graph.initializer.append(outside)
    else:
        node = helper.make_node("Constant", [], ["w"], value=outside)
        if place == "branch":
            branch = helper.make_graph([node], "b", [], [])
            node = helper.make_node("If", ["c"], ["w"], then_branch=branch, else_branch=branch)
        model.graph.node.append(node)
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    resign(bundle)
    with pytest.raises(HedgeError, match=r"model\.onnx: it keeps tensors in another file"):
        Manifest.load(bundle)


def test_damaged_graphs_that_are_signed_are_one_line(bundle: Path) -> None:
    """What is no ONNX file at all is told before a library sees it; 200 ways."""
    path, rng = bundle / "model.onnx", np.random.default_rng(0)
    whole = path.read_bytes()
    refused = 0
    for _ in range(200):
        data = bytearray(whole[: int(rng.integers(len(whole)))] if rng.random() < 0.3 else whole)
        for at in rng.integers(len(data), size=3) if data else ():
            data[at] = rng.integers(256)
        path.write_bytes(data)
        resign(bundle)
        try:
            Manifest.load(bundle)
        except HedgeError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50


def test_another_schema_is_refused_by_number(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(HedgeError, match="schema 99"):
        Manifest.load(bundle)


def test_newest_bundle_is_the_one_written_last(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    for age, name in enumerate(("z", "a")):
        folder = make_bundle(tmp_path / name)
        os.utime(folder / "manifest.json", (1e9 + age, 1e9 + age))
    assert newest_bundle(tmp_path).name == "a"
    with pytest.raises(HedgeError, match="python -m export"):
        newest_bundle(tmp_path / "none")


def test_a_licence_is_kept_and_bundles_from_before_there_was_one_load(bundle: Path) -> None:
    text = (bundle / "manifest.json").read_text()
    assert '"license"' not in text and Manifest.load(bundle).license is None
    replace(Manifest.load(bundle), license="CC0").save(bundle)
    assert Manifest.load(bundle).license == "CC0"
    (bundle / "manifest.json").write_text(
        (bundle / "manifest.json").read_text().replace("CC0", "MIT")
    )
    with pytest.raises(HedgeError, match="changed after it was written"):
        Manifest.load(bundle)


def test_the_numbers_in_label_files_travel_with_the_bundle(
    make_bundle: Make, tmp_path: Path
) -> None:
    own = ClassSet(("a", "b"), ((1, 1, 1), (2, 2, 2)), ids=(7, 255), ignored=(0,))
    assert Manifest.load(make_bundle(tmp_path / "own", class_set=own)).classes == own
    make_bundle(tmp_path / "plain")
    plain = json.loads((tmp_path / "plain" / "manifest.json").read_bytes())
    assert plain["classes"].keys() == {"names", "colors"}, "as bundles always had it"
