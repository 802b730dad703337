"""The checks of the streaming benchmarks find what they are there to find."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cells.video_stages import engine_only, streamed
from benchmarks.endurance import Endurance, main
from benchmarks.run.frames import drawn_drive
from runtime.backends.registry import load_engine
from runtime.segment import Segmenter
from runtime.sources.open import open_source
from tests.equipment import flow
from tests.equipment.cameras import Cycles
from tests.equipment.check import Check
from tests.equipment.damage import damaged, mutated
from tests.equipment.videos import remuxed, small_video

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def segmenter(shared_bundle: Path) -> Iterator[Segmenter]:
    with Segmenter(shared_bundle, "openvino", 1, in_flight=2) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_video(tmp_path_factory.mktemp("small") / "small.mp4", 40)


@pytest.mark.parametrize(("leaking", "grows"), [(False, False), (True, True)])
def test_a_leak_is_found_and_only_a_leak(
    leaking: bool, grows: bool, segmenter: Segmenter, video: Path
) -> None:
    done, growth = flow.endless(segmenter, video, 400, leaking)
    assert done == 400
    assert (growth > flow.GROWTH) == grows


def test_a_video_with_its_index_in_front_promises_its_frames(video: Path, tmp_path: Path) -> None:
    path = remuxed(video, tmp_path / "indexed.mp4")
    with open_source(str(path)) as source:
        assert source.expected == len(list(source)) == 40
    path.write_bytes(path.read_bytes()[:-9000])
    with open_source(str(path)) as source:
        assert len(list(source)) < 40
        assert source.complaint()


def test_damaged_videos_are_counted_by_what_became_of_them(
    shared_bundle: Path, video: Path, tmp_path: Path
) -> None:
    names = ("indexed.mp4", "small.mkv", "small.ts")
    videos = [video, *(remuxed(video, tmp_path / name) for name in names)]
    [check] = damaged(shared_bundle, videos, tmp_path / "damaged.mp4", 24)
    assert check.passed, check.found


def test_mutations_differ_from_the_original_and_repeat() -> None:
    whole = bytes(1000)
    first = [mutated(whole, random.Random(seed)) for seed in range(20)]
    assert whole not in first
    assert first == [mutated(whole, random.Random(seed)) for seed in range(20)]


def test_the_pipeline_is_timed_on_the_frames_asked_for(
    segmenter: Segmenter, shared_bundle: Path, tmp_path: Path
) -> None:
    video = drawn_drive(tmp_path / "street.mp4", 2)
    with load_engine(shared_bundle, "openvino", 1, in_flight=2) as engine:
        assert engine_only(engine, video, 2) > 0
    assert streamed(segmenter, video, 2, tmp_path / "overlay.mp4") > 0
    with open_source(str(tmp_path / "overlay.mp4")) as source:
        assert len(list(source)) == 2


def test_faults_are_timed_from_what_the_camera_and_the_stream_saw() -> None:
    cycles = Cycles()
    events = [
        ("play", 0.0), ("drop", 2.0), ("connect", 2.5), ("connect", 3.1), ("play", 3.1),
        ("stall", 5.0), ("connect", 8.5), ("play", 8.5),
    ]  # fmt: skip
    cycles.add(events, arrived=[0.5, 1.9, 2.1, 3.6, 4.9, 9.5])
    assert cycles.noticed == {"drop": [0.5], "stall": [3.5]}
    assert cycles.results == pytest.approx([0.6, 1.0])  # after 3.0, and after 8.5


def test_a_fault_that_nobody_notices_is_never_over() -> None:
    cycles = Cycles()
    cycles.add([("play", 0.0), ("stall", 5.0)], arrived=[4.0])
    assert cycles.noticed["stall"] == [np.inf]


def test_parts_of_the_checks_add_up_in_one_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {name: [Check(name, "none", "nothing", name != "disk")] for name in ("long", "disk")}
    monkeypatch.setattr(
        "tests.equipment.checks.checks",
        lambda config: {name: lambda name=name: found[name] for name in found},
    )
    assert main(Endurance(("long",), out=tmp_path)) == 0
    assert main(Endurance(("disk",), out=tmp_path)) == 4
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert report["checks"].keys() == {"long", "disk"}


def test_an_installed_package_says_where_the_equipment_is(tmp_path: Path) -> None:
    for package in ("benchmarks", "export", "runtime", "train"):  # what a wheel holds
        (tmp_path / package).symlink_to(ROOT / package)
    command = [sys.executable, "-m", "benchmarks.endurance", "--checks", "live"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    missing = f"error: {tmp_path / 'tests' / 'equipment'} is missing: "
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(missing)


def test_the_command_finds_the_equipment_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").write_text("raise ImportError('of somebody else')")
    code = (
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        "from benchmarks import endurance; endurance._find_equipment()\n"
        "import tests.equipment; print(tests.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(ROOT / "tests" / "__init__.py")
