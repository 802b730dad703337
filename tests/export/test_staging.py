"""Folders that are built beside their place: kills, locks and leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from export.fp16 import to_fp16
from export.staging import staged
from runtime import files
from runtime.bundle.shipped import SHIPPED
from runtime.errors import HedgeError, OutputError

ROOT = Path(__file__).parents[2]
MARK = "manifest.json"
BUILDER = f"""
import sys, time
from pathlib import Path
from export.staging import staged
with staged(Path(sys.argv[1]), True, {MARK!r}) as folder:
    (folder / {MARK!r}).write_text("half")
    print("building", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def builder(tmp_path: Path):  # noqa: ANN201
    """A process half-way through building ``bundles/a``; it is killed at the end."""
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "bundles" / "a")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "building\n"
    yield process
    process.kill()
    process.communicate()


def build(target: Path, text: str, force: bool = True) -> None:
    with staged(target, force, MARK) as folder:
        (folder / MARK).write_text(text)


def shown(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_never_the_newest_and_is_cleaned(
    builder: subprocess.Popen[str], tmp_path: Path
) -> None:
    root = tmp_path / "bundles"
    build(root / "old", "whole")
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    (left,) = root.glob(f".a.*/{MARK}")
    os.utime(left, (time.time() + 60,) * 2)
    assert files.newest(root, MARK, "make one").name == "old"
    build(root / "b", "whole")
    assert set(shown(root)) - {".a.lock"} == {"b", "old"}
    build(root / "a", "whole")
    assert shown(root) == ["a", "b", "old"]


def test_a_process_at_work_is_left_alone_and_its_target_refused(
    builder: subprocess.Popen[str], tmp_path: Path
) -> None:
    root = tmp_path / "bundles"
    with pytest.raises(OutputError, match=r"a: another process is writing it") as caught:
        build(root / "a", "mine")
    assert "\n" not in str(caught.value) and caught.value.exit_code == 5
    build(root / "b", "mine")
    assert len(list(root.glob(f".a.*/{MARK}"))) == 1, "the other's work is still there"


def test_the_old_folder_stands_until_the_new_one_does(tmp_path: Path) -> None:
    target = tmp_path / "a"
    build(target, "old")
    with pytest.raises(RuntimeError), staged(target, True, MARK) as folder:
        (folder / MARK).write_text("new")
        assert (target / MARK).read_text() == "old"
        raise RuntimeError
    assert (target / MARK).read_text() == "old" and shown(tmp_path) == ["a"]
    build(target, "new")
    assert (target / MARK).read_text() == "new" and shown(tmp_path) == ["a"]


def test_killed_between_the_renames_the_old_folder_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a"
    build(target, "old")
    code = f"""
import os, sys
from pathlib import Path
from export.staging import staged
rename = Path.rename
def killed(self, to):
    rename(self, to)
    os.kill(os.getpid(), 9)
Path.rename = killed
with staged(Path(sys.argv[1]), True, {MARK!r}) as folder:
    (folder / {MARK!r}).write_text("new")
"""
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL and not target.exists()
    with pytest.raises(OutputError, match="exists"):
        build(target, "newer", force=False)
    assert (target / MARK).read_text() == "old"


def test_a_temporary_file_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from runtime import files
with files.atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), 9)
"""
    path = tmp_path / "last.pt"
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert len(shown(tmp_path)) == 1
    with files.atomic_path(path) as temporary:
        temporary.write_bytes(b"whole")
    assert shown(tmp_path) == ["last.pt"]


def test_no_hidden_folder_is_the_newest(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / ".work" / MARK, b"")
    with pytest.raises(HedgeError, match="make one"):
        files.newest(tmp_path, MARK, "make one")


def test_a_graph_that_fills_a_disk_names_it(tiny_disk: Path) -> None:
    """The library that writes graphs names no file, and not all are written beside the bundle."""
    graph = SHIPPED / "street19-int8" / "model.cpu.onnx"
    with pytest.raises(OutputError, match=r"disk/x\.onnx: cannot be written: No space left"):
        to_fp16(graph, tiny_disk / "x.onnx")
