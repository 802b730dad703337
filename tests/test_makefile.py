"""What ``make`` does before there is an environment, with Pythons that only say their version."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\necho "$@" >> "{path.name}.log"\n[ "$1" != -V ] || echo {version}\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("there", "made"),
    [
        ("Python 3.11.7", "-m venv .venv"),
        ("Python 3.9.18", "-m venv --clear .venv"),
        ("", "-m venv --clear .venv"),
    ],
)
def test_an_environment_of_another_python_is_made_anew(
    there: str, made: str, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    python(tmp_path / ".venv/bin/python", there)
    ours = python(tmp_path / "ours", "Python 3.11.7")
    command = ["make", ".venv/.installed", f"PYTHON={ours}"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert made in (tmp_path / "ours.log").read_text().splitlines()


def test_a_python_that_is_too_old_is_told(tmp_path: Path) -> None:
    """As Python 3.9 would see the line that asks for its version."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    old = tmp_path / "old"
    old.write_text(f'#!/bin/sh\n{sys.executable} -c "import sys; sys.version_info = (3, 9); $2"\n')
    old.chmod(0o755)
    command = ["make", "demo", f"PYTHON={old}"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "error: Hedge needs Python 3.10 or newer" in ended.stderr and ended.returncode == 2
    assert not (tmp_path / ".venv").exists()
