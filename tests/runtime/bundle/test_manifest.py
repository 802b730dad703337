"""The manifest: round trip, and every kind of damage found before a model parser runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.bundle.manifest import Manifest, newest_bundle
from runtime.errors import HedgeError


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


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="not a bundle"):
        Manifest.load(tmp_path)


def test_a_manifest_cannot_point_outside_its_bundle(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"")
    manifest = Manifest.load(bundle)
    replace(manifest, files={**manifest.files, "../../secret": "0" * 64}).save(bundle)
    with pytest.raises(HedgeError, match="outside the bundle"):
        Manifest.load(bundle)


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
