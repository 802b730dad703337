"""Every detector finds the fault that is planted for it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from runtime.bundle import class_list, manifest
from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError
from runtime.sources.losses.account import Account
from runtime.sources.video_file import VideoSource
from tests.equipment.bundles import make_bundle
from tests.equipment.videos import make_clip, make_timed, remuxed
from tests.fuzz import command_lines, judges, planted
from tests.fuzz.case import Case
from tests.fuzz.worker import Judge, Outcome, Worker, WrongAnswer
from train.datasets import listfile


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    # A minute, for a busy machine may take that long to hand out memory.
    with Worker(tmp_path_factory.mktemp("worker"), hang_s=60, memory=256 << 20) as worker:
        yield worker


@pytest.mark.parametrize(
    ("judge", "outcome"),
    [
        (planted.right, "refused"),
        (planted.stumbling, "traceback"),
        (planted.careless, "wrong"),
        (planted.crashing, "crash"),
        (planted.greedy, "memory"),
        (planted.insatiable, "memory"),
    ],
)
def test_a_worker_finds_the_fault_and_goes_on(
    judge: Judge, outcome: Outcome, worker: Worker, tmp_path: Path
) -> None:
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    whole.write_text("whole")
    damaged.write_text("damaged")
    like = whole if judge in (planted.right, planted.careless) else None
    verdict = worker.judge(judge, damaged, like)
    assert verdict.outcome == outcome
    if outcome == "crash":
        assert f"in {judge.__name__}" in verdict.detail
    assert worker.judge(planted.right, whole, whole).outcome == "taken"


def test_a_worker_ends_what_hangs_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    path.write_text("damaged")
    with Worker(tmp_path, hang_s=5, memory=256 << 20) as worker:
        verdict = worker.judge(planted.hanging, path, None)
        assert verdict.outcome == "hang" and "in hanging" in verdict.detail
        assert worker.judge(planted.right, path, None).outcome == "refused"


def test_what_is_whole_and_refused_ends_the_campaign(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("damaged")
    with pytest.raises(AssertionError, match="which is whole, is not taken"):
        worker.judge(planted.right, path, path)


def _classes(path: Path, *rows: object) -> Path:
    path.write_text(json.dumps({"classes": rows}))
    return path


ROAD, SKY = {"name": "road", "id": 7}, {"name": "sky", "id": 3, "color": "#010203"}


@pytest.mark.parametrize(
    "fault",
    [
        ClassSet(("sky", "road"), ((1, 2, 3), (9, 9, 9))),  # ids have no effect
        ClassSet(("road", "sky"), ((9, 9, 9), (1, 2, 3)), (7, 3)),  # in the order of the file
        ClassSet(("sky", "road"), ((3, 2, 1), (9, 9, 9)), (3, 7)),  # BGR
        ClassSet(("sky",), ((1, 2, 3),), (3,)),
    ],
)
def test_class_lists(fault: ClassSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _classes(tmp_path / "classes.json", ROAD, SKY)
    assert judges.classes(path)
    monkeypatch.setattr(class_list, "load", lambda path: fault)
    with pytest.raises((WrongAnswer, ValueError)):
        judges.classes(path)


@pytest.mark.parametrize("text", ['[{"name": "a", "idd": 3}]', '[{"name": "a", "name": "b"}]'])
def test_class_lists_with_keys_that_have_no_effect(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "classes.json"
    path.write_text(text)
    with pytest.raises(HedgeError):
        judges.classes(path)
    monkeypatch.setattr(class_list, "load", lambda path: ClassSet(("b",), ((0, 0, 0),)))
    with pytest.raises(WrongAnswer):
        judges.classes(path)


def test_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    assert judges.manifest(bundle)
    monkeypatch.setattr(manifest, "_check_name", lambda name, what: None)
    loaded = replace(manifest.Manifest.load(bundle), name="a\x1b[31m")
    loaded.save(bundle)
    with pytest.raises(WrongAnswer):
        judges.manifest(bundle)


def test_lists(blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [blocks / kind / "train" / "train0.png" for kind in ("images", "labels")]
    (tmp_path / "train.txt").write_text(f"{names[0]}, {names[1]}\n")
    (tmp_path / "classes.json").write_bytes((blocks / "classes.json").read_bytes())
    assert judges.data_list(tmp_path / "train.txt")
    parse = listfile._parse
    monkeypatch.setattr(listfile, "_parse", lambda *given: (parse(*given)[0][:-1], []))
    with pytest.raises(WrongAnswer):
        judges.data_list(tmp_path / "train.txt")


def test_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut file that does not tell has another number of frames."""
    path = make_clip(tmp_path / "a.mkv", 40, codec="libx264", pixels="yuv420p")
    assert judges.video(path) == "40 frames"
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 4])
    with pytest.raises(HedgeError):
        judges.video(path)
    monkeypatch.setattr(VideoSource, "complaint", lambda source: None)
    assert judges.video(path) != "40 frames"


@pytest.mark.parametrize("name", ["a.h264", "a.flv"])
def test_recordings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lost frames and does not tell has another number of them."""
    path = make_timed(tmp_path / name, [Fraction(number, 25) for number in range(40)])
    assert judges.video(path) == "40 frames"
    holed = remuxed(path, tmp_path / f"holed-{name}", range(17, 18))
    with pytest.raises(HedgeError):
        judges.video(holed)
    monkeypatch.setattr(Account, "found", lambda account: "")
    assert judges.video(holed) == "39 frames"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (lambda config: 1 // 0, RuntimeError),
        (lambda config: Path("clip.mp4").write_bytes(b""), AssertionError),
    ],
)
def test_command_lines(
    fault: object, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {"line.json": b'["video"]', "clip.mp4": b"not a video"}
    path = Case(contents, "line.json", command_lines.command_line, "").write(tmp_path)
    with pytest.raises(HedgeError):
        command_lines.command_line(path)
    monkeypatch.setattr("runtime.video.main", fault)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of the trace that a fault leaves
    with pytest.raises(error):
        command_lines.command_line(path)


def test_every_option_of_every_command_is_among_the_nonsense() -> None:
    options = {
        name: {option.flag: option.count for option in command_lines.options_of(name)}
        for name in command_lines.COMMANDS
    }
    assert options["video"]["--raw-size"] == -1 and options["video"]["--no-overlay"] == 0
    assert options["edges"]["--in"] == options["train"]["--lr"] == 1
    assert "--train.epochs" in options["ablation"] and all(options.values())
