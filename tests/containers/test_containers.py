"""Containerfiles without a container engine: what they name exists, and their steps build Hedge."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from setuptools.config.pyprojecttoml import load_file

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "containers").glob("*.Containerfile"))
PINS = sorted((ROOT / "containers").glob("*.txt"))
PROJECT = load_file(ROOT / "pyproject.toml")["project"]
KNOWN = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "VOLUME", "ENTRYPOINT", "CMD"}
IN_THE_IMAGE = {"tensorrt"}  # NVIDIA's, with its CUDA


class Step(NamedTuple):
    """A line of a Containerfile."""

    verb: str
    rest: str


def steps(path: Path) -> list[Step]:
    lines = path.read_text("utf-8").replace("\\\n", " ").splitlines()
    return [Step(*line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (x.split("==") for x in lines)}


def installed(path: Path) -> tuple[str, list[str]]:
    """The file of pins, and the extras, of the step that installs Hedge."""
    (found,) = (
        re.search(r"--constraint (\S+) '\.\[(.+)\]'", step.rest)
        for step in steps(path)
        if "pip install" in step.rest
    )
    assert found is not None
    return found[1], found[2].split(",")


def test_there_is_one_for_each_kind_of_box() -> None:
    assert [path.stem for path in FILES] == ["cpu", "cuda", "jetson6", "jetson7"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_it_names_exists(path: Path) -> None:
    found = steps(path)
    assert {step.verb for step in found} <= KNOWN and found[0].verb == "FROM"
    assert re.fullmatch(r"[a-z.]+/[a-z0-9/-]+:[\w.-]*\d[\w.-]*", found[0].rest), "a tag, no latest"
    for step in found:
        if step.verb == "COPY":
            *sources, target = step.rest.split()
            assert all((ROOT / source).exists() for source in sources) and target.startswith("./")
    entry = next(step for step in found if step.verb == "ENTRYPOINT")
    assert json.loads(entry.rest)[0] in PROJECT["scripts"]
    _, extras = installed(path)
    assert set(extras) <= PROJECT["optional-dependencies"].keys()
    assert f"-f containers/{path.name}" in path.read_text("utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_all_that_it_installs_is_pinned_within_our_bounds(path: Path) -> None:
    name, extras = installed(path)
    table = pins(ROOT / "containers" / name)
    wanted = list(PROJECT["dependencies"])
    for extra in extras:
        wanted += PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        if requirement.name not in IN_THE_IMAGE:
            pinned = table[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pinned), requirement


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        ("av", ["17.0.0", "18.1.0"], "19.0.2"),  # no metadata_errors: all videos would be refused
        ("msgspec", ["0.18.6"], "0.18.5"),  # no order of keys: no manifest would be read
        ("onnx-ir", ["0.1.16"], "0.1.15"),  # no schemas, which torch.onnx asks for
        ("onnxscript", ["0.6.0"], "0.5.7"),  # no module torch_2_11, which torch.onnx imports
        ("openvino", ["2025.1.0"], "2025.0.0"),  # a compiled model comes as bytes: no engine starts
        ("tyro", ["1.0.0"], "0.9.35"),  # takes no negative numbers with an exponent
    ],
)
def test_no_library_is_taken_that_does_otherwise(name: str, taken: list[str], refused: str) -> None:
    listed = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    (bound,) = {str(r.specifier) for r in map(Requirement, listed) if r.name == name}
    assert all(version in SpecifierSet(bound) for version in taken)
    assert refused not in SpecifierSet(bound)


def test_every_file_of_pins_is_used_and_copied() -> None:
    used = {installed(path)[0] for path in FILES}
    assert used == {path.name for path in PINS}
    for path in FILES:
        assert any(f"containers/{installed(path)[0]}" in step.rest for step in steps(path))


def test_the_steps_of_the_cpu_build_hedge(tmp_path: Path) -> None:
    """Its COPY and RUN steps, in a folder in place of the image's root, without the network.

    The libraries are those of this environment; Hedge is what the copied files make.
    """
    app, work = tmp_path / "app", tmp_path / "work"
    app.mkdir()
    libraries = sysconfig.get_path("purelib")
    ours = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "false"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **ours, "PYTHONPATH": libraries, "PATH": path}
    for step in steps(ROOT / "containers" / "cpu.Containerfile"):
        if step.verb == "COPY":
            *sources, target = step.rest.split()
            for source in sources:
                _copy(ROOT / source, app / target, len(sources))
        elif step.verb == "RUN":
            command = re.sub(r"(?<![\w.])/(app|work|cache)\b", rf"{tmp_path}/\1", step.rest)
            subprocess.run(["sh", "-ec", command], cwd=app, env=env, check=True)
    hedge = app / "venv" / "bin" / "hedge"
    code = "from runtime.bundle.shipped import find_bundle; print(find_bundle(None))"
    for command, expected in (
        ([hedge, "--version"], "hedge "),
        ([hedge.with_name("python"), "-c", code], str(app / "venv")),
    ):
        run = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, check=True)
        assert run.stdout.startswith(expected)


def _copy(source: Path, target: Path, count: int) -> None:
    if source.is_file():
        shutil.copy(source, target / source.name if count > 1 or target.is_dir() else target)
    else:
        unwanted = shutil.ignore_patterns("__pycache__", "engines", "results")
        shutil.copytree(source, target, ignore=unwanted)
