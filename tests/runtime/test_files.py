"""Atomic files: whole or not there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from runtime import files
from runtime.errors import HedgeError


def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_bytes(path, b"old")
    with pytest.raises(RuntimeError), files.atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_makes_the_folder_and_gives_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.json"
    files.write_bytes(path, b"new")
    plain = tmp_path / "plain"
    plain.touch()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode == plain.stat().st_mode


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * (1 << 20) + b"y")
    assert files.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_newest_goes_by_time_and_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="make one"):
        files.newest(tmp_path, "m.json", "make one")
    for age, name in enumerate(("b", "a")):
        files.write_bytes(tmp_path / name / "m.json", b"")
        os.utime(tmp_path / name / "m.json", (1e9 + age, 1e9 + age))
    assert files.newest(tmp_path, "m.json", "").name == "a"
