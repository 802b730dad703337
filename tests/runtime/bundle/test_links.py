"""Links in a bundle lead nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError


def test_a_file_that_is_a_link_out_of_the_bundle_is_told(bundle: Path, tmp_path: Path) -> None:
    """As in caches that keep what a file holds elsewhere, by its hash."""
    (bundle / "model.onnx").rename(tmp_path / "blob")
    (bundle / "model.onnx").symlink_to(tmp_path / "blob")
    with pytest.raises(HedgeError, match=r"model\.onnx: a link that leads out .* copy what it"):
        Manifest.load(bundle)


@pytest.mark.parametrize("link", ["engines/golden.json", "engines"])
def test_links_of_a_strangers_engines_lead_to_no_file_of_the_user(
    link: str, bundle: Path, tmp_path: Path
) -> None:
    """What a start keeps in ``engines/`` would be written to where they lead."""
    (tmp_path / "mine").mkdir()
    (bundle / link).parent.mkdir(exist_ok=True)
    (bundle / link).symlink_to(tmp_path / "mine")
    with pytest.raises(HedgeError, match=f"{link}: a link that leads out of the bundle; remove it"):
        Manifest.load(bundle)
