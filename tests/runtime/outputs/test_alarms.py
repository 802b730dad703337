"""Alarms: which pixels a zone holds, when a rule rings, and what the command says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.bundle.classes import ClassSet
from runtime.errors import AlarmError, HedgeError
from runtime.outputs.alarms import Alarm, Watch, Zone
from runtime.sources.base import Frame
from runtime.video import VideoConfig, main
from tests.equipment.processes import rows_of

NOTHING = np.zeros((8, 8, 3), np.uint8)


def test_a_zone_holds_the_pixels_whose_middle_is_inside() -> None:
    left = Zone.parse("a=0,0,0.5,0,0.5,1,0,1").mask((6, 8))
    assert left[:, :4].all() and not left[:, 4:].any()
    triangle = Zone.parse("b=0,0,1,0,0,1").mask((40, 40))
    rows, columns = np.mgrid[:40, :40] + 0.5
    assert (triangle == (rows + columns < 40))[rows + columns != 40].all()
    hollow = Zone.parse("c=0,0,1,0,1,1,0.9,1,0.9,0.1,0.1,0.1,0.1,1,0,1").mask((20, 20))
    assert hollow[0].all() and hollow[:, 0].all() and not hollow[5:, 5:15].any()


def rings(rule: str, reds: list[float], classes: ClassSet, *zones: str) -> list[int]:
    """The frames, ten a second, in which a rule rings; ``reds``: the share of red in each."""
    watch = Watch([Alarm.parse(rule)], [Zone.parse(text) for text in zones], classes)
    found = []
    for index, share in enumerate(reds):
        labels = np.zeros((10, 10), np.uint8)
        labels.ravel()[: round(share * 100)] = 2  # from the top
        held, _ = watch.update(Frame(index, index / 10, NOTHING, str(index)), labels)
        found += [index] if held else []
    return found


def test_a_rule_rings_when_it_has_held_long_enough(classes: ClassSet) -> None:
    reds = [0.5, 0.2, 0.2, 0.2, 0.2, 0.5, 0.2, 0.2, 0.2]
    assert rings("red < 0.3 for 0.3 s", reds, classes) == [4]
    assert rings("RED<.3 for 0.2s", reds, classes) == [3, 4, 8]
    assert rings("red < 0.3", reds, classes) == [1, 2, 3, 4, 6, 7, 8]
    assert rings("red > 0.2", reds, classes) == [0, 5], "the bound itself is on neither side"
    assert rings("red < 0.2", reds, classes) == []


def test_a_gap_of_a_camera_is_no_part_of_what_was_seen(classes: ClassSet) -> None:
    watch, labels = Watch([Alarm.parse("red > 0.5 for 3 s")], [], classes), np.full((2, 2), 2)
    told = []
    for time_s, unseen_s in [(0, 0), (1, 0), (61, 60), (62, 60), (63, 60), (83, 79.5)]:
        frame = Frame(0, time_s, NOTHING, "", unseen_s=unseen_s)
        told += [(ring.time_s, ring.seconds) for ring in watch.update(frame, labels)[0]]
    assert told == [(0, 3), (0, 3.5)]


def test_a_rule_is_of_its_zone_or_of_all(classes: ClassSet) -> None:
    zones = ("top=0,0,1,0,1,.5,0,.5", "low=0,.5,1,.5,1,1,0,1")
    assert rings("red in top > 0.9", [0.4, 0.5, 1.0], classes, *zones) == [1, 2]
    assert rings("red in low > 0.9", [0.4, 0.5, 1.0], classes, *zones) == [2]
    assert rings("red < 0.1", [0.4, 0.5, 1.0], classes, *zones) == [0, 1], "low has none"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alarm": ("red ~ 2",)}, '--alarm red ~ 2: give "CLASS < SHARE'),
        ({"alarm": ("red < 30",)}, "a share is 0..1"),
        ({"alarm": ("car > 0.1",)}, "--alarm car: no class of this model; it has blue, green, red"),
        ({"alarm": ("red in z > 0.1",)}, "no zone z; there are none"),
        ({"alarm": ("red > 0",), "zone": ("z=0,0,640,0,1,1",)}, "0..1 of the frame's"),
        ({"alarm": ("red > 0",), "zone": ("z=0,0,1,1",)}, "three corners"),
        ({"alarm": ("red > 0",), "zone": ("z=0,0,1,0,1,1",) * 2}, "share a name"),
        ({"zone": ("z=0,0,1,0,1,1",)}, "give --alarm as well"),
    ],
)
def test_what_means_nothing_is_one_line(
    options: dict[str, tuple[str, ...]], said: str, shared_bundle: Path, tmp_path: Path,
    make_images: Callable[..., Path],
) -> None:  # fmt: skip
    photos = make_images(tmp_path / "photos", 1)
    with pytest.raises(HedgeError) as caught:
        main(VideoConfig(str(photos), shared_bundle, "onnxruntime", json=tmp_path / "r", **options))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_command_tells_at_once_in_rows_in_the_report_and_by_its_code(
    shared_bundle: Path, tmp_path: Path, make_images: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    blue, red = (np.full((64, 96, 3), color, np.uint8) for color in ((250, 0, 0), (0, 0, 250)))
    photos = make_images(tmp_path / "photos", [red, blue, blue, blue, red])
    config = VideoConfig(
        str(photos), shared_bundle, "onnxruntime", alarm=("red < 0.5 for 0.2 s", "green > 0.5"),
        zone=("lane=0.25,0.25,0.75,0.25,0.75,0.75,0.25,0.75",), out=tmp_path / "drawn",
        json=tmp_path / "r.json", metrics=tmp_path / "rows.jsonl", opacity=0.0,
    )  # fmt: skip
    with pytest.raises(AlarmError, match="alarms that rang: 1") as caught:
        main(config)
    assert caught.value.exit_code == 6
    rule = "red in lane < 0.5 for 0.2 s"
    assert [row["alarms"] for row in rows_of(tmp_path / "rows.jsonl")] == [[], [], [], [rule], []]
    told = json.loads((tmp_path / "r.json").read_text())["alarms"]
    assert told["count"] == 1
    [ring] = told["first"]
    assert ring == {"alarm": rule, "time_s": 0.1, "seconds": pytest.approx(0.2)}
    printed = capsys.readouterr()
    assert f"alarm: {rule}, from 0.10 s" in " ".join(printed.err.split())
    with Image.open(tmp_path / "drawn" / "f0.png") as image:
        drawn = np.asarray(image)
    assert drawn[15:17, 48].min() > 150 and (drawn[32, 48] == (250, 0, 0)).all(), "its outline"


def test_a_run_in_which_nothing_rings_ends_well(
    shared_bundle: Path, tmp_path: Path, make_images: Callable[..., Path]
) -> None:
    config = VideoConfig(
        str(make_images(tmp_path / "photos", 2)), shared_bundle, "onnxruntime",
        alarm=("red > 0.9",), json=tmp_path / "r.json",
    )  # fmt: skip
    assert main(config) == 0
    assert json.loads((tmp_path / "r.json").read_text())["alarms"] == {"count": 0, "first": []}
