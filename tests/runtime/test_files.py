"""Atomic files: whole or not there."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
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


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    files.write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    files.write_bytes(pipe, b"content")
    reader.join(30)
    assert got == [b"content"] and pipe.is_fifo()


def test_a_full_device_is_named_and_stays(tmp_path: Path) -> None:
    full = tmp_path / "full"
    try:  # one of its own: root could put a file in the place of the machine's
        os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    except PermissionError:
        full = Path("/dev/full")
    with pytest.raises(OSError) as error:
        files.write_bytes(full, b"x")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(full))
    assert full.is_char_device()


def test_a_full_disk_names_the_file_that_did_not_fit(tiny_disk: Path) -> None:
    with pytest.raises(OSError) as error:
        files.write_bytes(tiny_disk / "large", b"x" * (1 << 27))
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tiny_disk / "large"))


def test_without_hard_links_the_first_still_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on exFAT and many network drives."""

    def no_link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", no_link)
    for content in (b"first", b"second"):
        files.write_bytes(tmp_path / "a.parquet", content, first_wins=True)
    assert (tmp_path / "a.parquet").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
