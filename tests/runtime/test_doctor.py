"""``hedge doctor``: whatever is missing or broken is a line, and the exit code says what works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from runtime.bundle.golden import Golden
from runtime.bundle.manifest import Manifest
from runtime.doctor import here, page
from runtime.doctor.__main__ import Doctor, Findings, main
from runtime.doctor.decoding import Decoding
from runtime.doctor.here import Library, Machine
from runtime.doctor.trial import Trial
from runtime.errors import GateError
from runtime.sources.hardware.decoder import HARDWARE
from tests.equipment.bundles import make_bundle

ROOT = Path(__file__).parents[2]
# No finder of this process, nor of those it starts, finds these.
BLOCKER = """
import sys
hidden = {names!r}
class Blind:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            return None
        return self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = map(Blind, sys.meta_path)
"""
NEVER = ["torch", "torchvision", "onnx", "tensorrt_rtx", "cuda"]  # needed


@pytest.fixture
def golden_bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", golden_frames=True)


@pytest.fixture
def doctor(golden_bundle: Path, tmp_path: Path) -> Callable[..., tuple[int, str, dict]]:
    """Run the command in a process without some libraries: exit code, what it prints, its JSON."""
    place = tmp_path / "site"
    place.mkdir()

    def run(*hidden: str) -> tuple[int, str, dict]:
        (place / "sitecustomize.py").write_text(BLOCKER.format(names={*NEVER, *hidden}))
        command = [sys.executable, "-m", "runtime.doctor", "--bundle", str(golden_bundle)]
        report = tmp_path / "doctor.json"
        done = subprocess.run(
            [*command, "--threads", "1", "--json", str(report)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(place)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr, json.loads(report.read_bytes())

    return run


@pytest.mark.parametrize(
    ("hidden", "extra", "left"),
    [
        (("openvino",), "openvino", {"onnxruntime"}),
        (("onnxruntime",), "runtime", {"openvino"}),
        (("openvino", "onnxruntime"), "openvino", set()),
    ],
    ids=str,
)
def test_a_library_that_is_not_here_is_a_line(
    hidden: tuple[str, ...], extra: str, left: set[str], doctor: Callable[..., tuple]
) -> None:
    code, said, found = doctor(*hidden)
    assert code == (0 if left else 2)
    for name in hidden:
        assert f"missing: {name}; pip install 'hedge-seg[" in said
        assert {"name": name, "version": None} in found["libraries"]
    assert f"hedge-seg[{extra}]" in said
    assert {one["backend"] for one in found["engines"] if one["works"]} == left
    for one in found["engines"]:
        assert one["works"] and one["agreement"] >= one["bound"] == 0.99 and one["ms"] > 0
    if not left:
        assert "error: no engine works here: pip install 'hedge-seg[openvino,runtime]'" in said


def test_a_library_that_takes_its_process_with_it_is_a_line(
    doctor: Callable[..., tuple], tmp_path: Path
) -> None:
    (tmp_path / "site" / "openvino.py").write_text("import os\nos._exit(7)\n")
    code, said, found = doctor()
    assert code == 0 and "openvino: its process ended with 7" in said
    assert found["silent"] == {"openvino": "its process ended with 7"}
    assert "1 of 1 engines work; fastest here: onnxruntime on CPU" in said


def test_the_share_that_an_engine_needs_is_beside_what_it_reaches(golden_bundle: Path) -> None:
    manifest = Manifest.load(golden_bundle)
    golden = Golden("drawn streets", 3, {"int8": 0.67027, "fp32": 0.999})
    table = page.engine_table([], replace(manifest, golden=golden))
    assert str(table.caption).endswith(
        "3 golden frames (drawn streets); asked: 67.03 % in int8, 99.90 % in fp32"
    )


def test_engines_that_answer_otherwise_are_refused(
    golden_bundle: Path, resign: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    last = golden_bundle / "golden" / "2-labels.png"  # a start asks the first frame alone
    cv2.imwrite(str(last), np.zeros((24, 32), np.uint8))
    resign(golden_bundle)
    with pytest.raises(GateError, match="its golden frames refuse every engine"):
        main(Doctor(golden_bundle))
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("refused") == 2 and "openvino on CPU: " in said
    assert "of the golden frames' pixels PyTorch's label" in said


def test_without_golden_frames_engines_are_compared(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(Doctor(bundle, json=tmp_path / "found.json")) == 0
    assert "no golden frames in this bundle" in " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "found.json").read_bytes())
    assert [one["agreement"] for one in found["engines"]] == [None, None]
    assert all(one["alike"] > 0.99 for one in found["engines"])
    assert [one["name"] for one in found["decoders"]] == list(HARDWARE)
    assert all(one["works"] == (one["error"] is None) for one in found["decoders"])
    text = (ROOT / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
    section = text.split("## `--json` of `hedge doctor`\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", section)) - {"null"}
    records = (Findings, Machine, Library, Trial, Decoding, here.Missing)
    assert named == {field.name for record in records for field in fields(record)}


def test_tables_fit_into_80_columns(golden_bundle: Path) -> None:
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    trials = [
        Trial("onnxruntime", "CPU", True, "int8", 0.98765, 0.97, 1.0, 12345.6, 0.83),
        Trial("tensorrt_rtx", "CUDA", error="no plan for this GPU", refused=True),
    ]
    console.print(page.machine_table(here.this_machine(), here.libraries()))
    manifest = Manifest.load(golden_bundle)
    console.print(page.engine_table(trials, manifest))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert "98.77" in text and "12345.6" in text and "refused" in text and "tensorrt_rtx" in text


def test_what_was_asked_in_int8_is_told_by_share(golden_bundle: Path) -> None:
    manifest = Manifest.load(golden_bundle)
    object.__setattr__(manifest, "precision", "int8")
    found = list(page.lines([Trial("openvino", "GPU", True, "int8", int8=0.834)], {}, [], manifest))
    assert "openvino on GPU: INT8 asked, 83.4 % of the multiply-adds computed in INT8" in found
