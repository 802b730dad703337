"""The table of engines: what is installed, what does not start, what engines leave behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.backends.registry import BACKENDS, Backend, installed_backends, load_engine
from runtime.errors import HedgeError

ROOT = Path(__file__).parents[3]


def test_no_engine_at_all_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, bundle: Path
) -> None:
    rows = {name: row._replace(library=f"no_{name}") for name, row in BACKENDS.items()}
    monkeypatch.setattr("runtime.backends.registry.BACKENDS", rows)
    assert installed_backends() == []
    with pytest.raises(HedgeError, match=r"pip install 'hedge-seg\[runtime\]'"):
        load_engine(bundle)


def test_a_library_that_does_not_import_is_one_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Path
) -> None:
    (tmp_path / "torn_engine.py").write_text("raise ImportError('libnvinfer.so.10: not found')")
    monkeypatch.syspath_prepend(tmp_path)
    row = Backend("torn_engine", "numpy", "tensorrt", "cpu")
    monkeypatch.setattr("runtime.backends.registry.BACKENDS", {"torn": row})
    with pytest.raises(HedgeError, match=r"torn does not start: libnvinfer.*hedge-seg\[tensorrt\]"):
        load_engine(bundle, "torn")


AFTER_ENGINES = """
import signal, sys
from pathlib import Path
from runtime.backends.registry import load_engine

first, second = (load_engine(Path(sys.argv[1]), sys.argv[2]) for _ in range(2))
for engine in (first, second):
    engine.close()
del first, second, engine
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("backend", installed_backends())
def test_signals_arrive_after_engines_went_in_the_order_they_came(
    backend: str, bundle: Path
) -> None:
    """OpenVINO's cores move the stack of their thread's signals, and put back one that is gone."""
    command = [sys.executable, "-c", AFTER_ENGINES, str(bundle), backend]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_graph_with_names_that_are_not_text_is_refused(
    backend: str, bundle: Path, resign: Callable[[Path], None]
) -> None:
    """OpenVINO cannot even say so: its message holds the name."""
    model = bundle / "model.onnx"
    data = model.read_bytes()
    last = data.rindex(b"Cast")
    model.write_bytes(data[:last] + b"\xff\xffst" + data[last + 4 :])
    resign(bundle)
    with pytest.raises(HedgeError, match=r"model.onnx: .* refuses it"):
        load_engine(bundle, backend)
