"""Data flows one way: train → export → runtime → benchmarks, and torch never reaches the edge."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "runtime": {"runtime"},
    "train": {"train", "runtime"},
    "export": {"export", "train", "runtime"},
    "benchmarks": {"benchmarks", "export", "train", "runtime"},
}
# The command whose servers and planted faults are the tests' own; an installed wheel has none.
USES_THE_EQUIPMENT = ROOT / "benchmarks" / "endurance.py"
HIDDEN = """
import sys
from importlib import util
real = util.find_spec
util.find_spec = lambda name, *rest: None if name == "torchvision" else real(name, *rest)
"""
NOT_AT_THE_EDGE = {"torch", "torchvision", "onnx", "onnxscript", "matplotlib", "tensorboard"}

TRAINING = {"scipy", "timm", "numba", "onnxruntime", "openvino"}


def imports(path: Path) -> set[str]:
    """The top-level packages a file imports anywhere, also inside functions and type checks."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            pytest.fail(f"{path}: relative import; name the package")
    return found


FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    allowed = MAY_IMPORT[package] | ({"tests"} if path == USES_THE_EQUIPMENT else set())
    upward = (imports(path) & {*MAY_IMPORT, "tests"}) - allowed
    assert not upward, f"{package} must not import {upward}"
    if package == "runtime":
        assert not imports(path) & NOT_AT_THE_EDGE


def test_no_module_imports_itself_by_a_circle() -> None:
    """Imports for types alone count as well: two modules that need each other are one."""
    packages = (*MAY_IMPORT, "hedge_seg", "tests")
    sources = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sources}
    graph = {name: imported_modules(path) & modules.keys() for name, path in modules.items()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' → '.join(error.args[1])}")


def imported_modules(path: Path) -> set[str]:
    """Dotted names of what a file imports: modules, and names in them that may be modules."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_room_can_be_drawn() -> None:
    """At most 14 Python files of a folder's own, and 330 lines in each."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [ROOT / name for name in listed.stdout.split() if (ROOT / name).is_file()]
    rooms = Counter(path.parent for path in paths)
    assert not {str(room): count for room, count in rooms.items() if count > 14}
    lines = {str(path): len(path.read_text().splitlines()) for path in paths}
    assert not {path: count for path, count in lines.items() if count > 330}


@pytest.mark.parametrize(
    "modules", ["runtime.video, runtime.backends.ort", "export.__main__, runtime.backends.trt"]
)
def test_what_runs_on_the_target_starts_without_torch(modules: str) -> None:
    """Streaming, and ``python -m export --engine`` on a bundle."""
    code = f"import sys, {modules}\nassert not {NOT_AT_THE_EDGE!r} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_test_equipment_is_imported_where_a_check_needs_it() -> None:
    code = "import sys, benchmarks.endurance\nassert 'tests' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("train", "import train.models"),
        ("train", "import hedge_seg; hedge_seg.load('train.models')"),
        ("train", "from train import evaluate as c; c.main(c.Evaluate())"),
        ("train", "from train import release as c; c.main(c.Release())"),
        ("train", "from train import edges as c; c.main(c.Edges('a', 'b'))"),
        ("train", "from train.hed import __main__ as c; c.main(c.HedConfig(data='a'))"),
        ("train", "from train.hed import evaluate as c; c.main(c.EvaluateEdges('a', 'b'))"),
        ("export", "from export import __main__ as c; c.main(c.Export())"),
        ("benchmarks", "from benchmarks import speed as c; c.main(c.Speed())"),
        ("benchmarks", "from benchmarks import pipeline as c; c.main(c.Pipeline())"),
        ("benchmarks", "from benchmarks import ablation as c; c.main(c.Ablation())"),
        ("benchmarks", "from benchmarks import endurance as c; c.main(c.Endurance())"),
    ],
)
def test_a_missing_library_is_an_import_error_that_names_its_extra(package: str, use: str) -> None:
    """As after ``pip install hedge-seg[runtime]``: the stage is there, its libraries are not."""
    code = f"""
{HIDDEN}
try:
    {use}
except ImportError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == f"torchvision not installed; pip install 'hedge-seg[{package}]'\n"


def test_data_sets_are_checked_without_the_libraries_of_training() -> None:
    """Where labels are made there is numpy, OpenCV and Pillow, and often nothing more."""
    code = (
        f"import sys, train.check\nassert not {NOT_AT_THE_EDGE | TRAINING!r} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("train", "torchvision", "train"),
        ("benchmarks", "jinja2", "benchmarks"),
        ("benchmarks.pipeline", "psutil", "benchmarks"),
        ("benchmarks.speed", "jinja2", "benchmarks"),
        ("benchmarks.endurance", "psutil", "benchmarks"),
        ("benchmarks.studies.foreign", "pynvml", "benchmarks"),
        ("benchmarks.studies.untrained", "onnx", "benchmarks"),
        ("benchmarks.studies.fleet", "pyarrow", "fleet"),
        ("benchmarks.studies.fleet_efficiency", "pyarrow", "fleet"),
    ],
)
def test_a_command_says_what_is_missing_in_one_line(module: str, library: str, extra: str) -> None:
    code = f"""
{HIDDEN.replace("torchvision", library)}
import runpy
sys.modules[{library!r}] = None
sys.argv = ["-m"]  # as it is while python -m looks for its module
sys.orig_argv = ["python", "-m", {module!r}]
runpy.run_module({module!r}, run_name="__main__")
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    fix = f"error: {library} not installed; pip install 'hedge-seg[{extra}]'\n"
    assert (result.returncode, result.stderr) == (2, fix)
