"""The console script and the library, from a wheel, in a folder that holds somebody else's code."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hedge_seg.commands import COMMANDS, SHELLS, Shell, completion

ROOT = Path(__file__).parents[2]
THEIRS = ("train.py", "export.py", "runtime/__init__.py", "benchmarks/__init__.py")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a fresh environment that has our wheel; other libraries are this one's."""
    work = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", work, ROOT], check=True, timeout=300)
    environment = work / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    [wheel] = work.glob("hedge_seg-*.whl")
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    # A plain line adds the folder only: its own .pth files, that of the checkout, do not count.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return python.parent


def test_the_source_distribution_holds_no_part_of_the_tests(tmp_path: Path) -> None:
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    command = [sys.executable, "-c", code, tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [archive] = tmp_path.glob("hedge_seg-*.tar.gz")
    with tarfile.open(archive) as sources:
        names = sources.getnames()
    assert any(name.endswith("runtime/models/street19.LICENSE") for name in names)
    assert not [name for name in names if "/tests" in name]


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder with modules of the same names as ours, none of which may run."""
    for name in THEIRS:
        path = tmp_path / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise SystemExit('somebody else ran')\n")
    return tmp_path / "work"


def test_the_script_runs_beside_modules_of_the_same_names(
    installed: Path, theirs: Path, bundle: Path, make_clip: Callable[..., Path]
) -> None:
    def hedge(*arguments: str | Path) -> str:
        command = [installed / "hedge", *arguments]
        done = subprocess.run(command, cwd=theirs, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert hedge("--version").startswith("hedge 0.")
    assert all(f"  {name} " in hedge("--help") for name in ("train", "export", "video", "bench"))
    assert "--bundle" in hedge("video", "--help")
    clip = make_clip(theirs / "clip.mp4")
    hedge("video", clip, "--bundle", bundle, "--out", "seen.mp4")
    assert (theirs / "seen.mp4").stat().st_size > 1000
    where = "import hedge_seg, runtime; print(runtime.__file__)"
    found = subprocess.run(
        [installed / "python", "-c", where], capture_output=True, text=True, check=True, cwd="/"
    )
    assert str(installed.parent) in found.stdout, "the wheel's own packages are what ran"


def test_somebody_elses_module_is_named_instead_of_used(installed: Path, theirs: Path) -> None:
    """In a notebook the current folder comes first."""
    code = "import hedge_seg\ntry: hedge_seg.TrainConfig\nexcept ImportError as e: print(e)"
    done = subprocess.run(
        [installed / "python", "-c", code], cwd=theirs, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"runtime is {theirs}/runtime/__init__.py, not the one of hedge")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (["vdeo"], 2, "error: no command vdeo; did you mean video? (hedge --help lists them)"),
        (["--completion", "tcsh"], 2, "error: --completion takes bash, zsh or fish"),
        (["video", "nowhere.mp4"], 2, "error: "),
    ],
)
def test_a_wrong_line_is_one_line(line: list[str], code: int, said: str) -> None:
    command = [sys.executable, "-m", "hedge_seg", *line]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert done.stderr.startswith(said)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads(name: str) -> None:
    config, main = COMMANDS[name].load()
    assert config.__doc__ and callable(main)


EVERY_HELP = """
import contextlib, io, runpy, sys
from hedge_seg.commands import COMMANDS
for name, command in COMMANDS.items():
    sys.argv, said = [name, "--help"], io.StringIO()
    module = command.module.removesuffix(".__main__")
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        print(name, end.code, "Exit codes" in said.getvalue(), "torch" in sys.modules)
"""


def test_every_command_explains_itself_and_its_exit_codes_without_pytorch() -> None:
    """PyTorch takes seconds to load, in which nobody wants to wait for --help."""
    done = subprocess.run(
        [sys.executable, "-c", EVERY_HELP], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [f"{name} 0 True False" for name in COMMANDS], done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_names_commands_and_options(shell: Shell) -> None:
    script = completion(shell)
    assert all(name in script for name in COMMANDS)
    assert "backend" in script
    assert "stop-after" in script and "until" not in script, "options by the names they go by"


def test_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "hedge.bash").write_text(completion("bash"))
    ask = "source hedge.bash; COMP_WORDS=(hedge {}); COMP_CWORD={}; _hedge; echo ${{COMPREPLY[*]}}"
    for words, position, expected in (("vi", 1, "video"), ("video --boun", 2, "--boundaries")):
        line = ask.format(words, position)
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.strip() == expected, done.stderr
