"""The study of networks trained elsewhere: labels that it may score on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from benchmarks.studies import foreign
from benchmarks.studies.foreign import Foreign
from runtime import cli
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError


def test_labels_of_other_classes_and_none_are_refused_before_anything_is_quantised(
    make_bundle: Callable[..., Path],
    blocks: Path,
    make_images: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "require", lambda *_: None)
    bundle = make_bundle(tmp_path / "tiny")
    manifest = Manifest.load(bundle)
    own = structs.replace(manifest.classes, names=("sky", "green", "red"))
    replace(manifest, classes=own).save(bundle)
    with pytest.raises(HedgeError, match=r"tiny: its classes are not .* class 0 is sky, .* blue"):
        foreign.main(Foreign((bundle,), blocks))
    photos = make_images(tmp_path / "photos")
    with pytest.raises(HedgeError, match="photos: no labels to score on"):
        foreign.main(Foreign((bundle,), photos))
