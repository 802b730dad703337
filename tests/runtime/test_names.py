"""Names are text in every output: no HTML, no control codes, no bytes that are none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from runtime import files
from runtime.errors import IncompleteError
from runtime.video import VideoConfig, main

Make = Callable[..., Path]
HTML = "<img src=x onerror=alert(1)>"
NAMES = {
    "HTML": HTML,
    "control codes": "a\x1b[2J\x07\rb",
    "lines": "a\nb",
    "no text": os.fsdecode(b"a\xff\xfeb"),
    "options": "-report --force",
    "other letters": "Straße 東京",
}


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Straße 東京", "Straße 東京"), ("a\x1b[2Jb\n", "a\\x1b[2Jb\\n"), ("a\udcff", "a\\udcff")],
)
def test_what_is_shown_of_a_name(name: str, shown: str) -> None:
    assert files.printable(name) == shown
    assert files.printable(shown) == shown


@pytest.mark.parametrize("kind", NAMES)
def test_a_video_of_any_name_is_read_and_named_safely(
    kind: str, shared_bundle: Path, make_clip: Make, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    clip = make_clip(tmp_path / "a.mp4", 4).rename(tmp_path / f"{NAMES[kind]}.mp4")
    out, report, rows = (tmp_path / name for name in ("o.mp4", "r.json", "rows"))
    config = VideoConfig(
        str(clip), shared_bundle, "onnxruntime", out=out, json=report, metrics=rows
    )
    assert main(config) == 0
    told = json.loads(report.read_text())
    assert told["source"] == files.printable(str(clip))
    assert (told["frames_read"], told["videos"]) == (4, [str(out)])
    printed = capsys.readouterr()
    written = [report.read_text(), rows.read_text(), *printed]
    assert not any(HTML in text or "\x1b[2J" in text for text in written)
    assert HTML.encode() not in out.read_bytes()
    with av.open(str(out)) as container:
        assert container.metadata.keys() <= {"major_brand", "minor_version", "compatible_brands",
                                             "encoder"}  # fmt: skip


@pytest.mark.parametrize("kind", NAMES)
def test_images_of_any_name_are_too(
    kind: str, shared_bundle: Path, make_images: Make, tmp_path: Path
) -> None:
    name = NAMES[kind]
    folder = make_images(tmp_path / name, 3, name=name + "{}")
    (folder / f"{name}1.png").write_bytes(b"broken")
    report, rows, labels = (tmp_path / part for part in ("r.json", "rows", "labels"))
    config = VideoConfig(
        str(folder), shared_bundle, "onnxruntime", json=report, metrics=rows, save_labels=labels
    )
    with pytest.raises(IncompleteError):
        main(config)
    names = [json.loads(line)["name"] for line in rows.read_text().splitlines()]
    assert names == [files.printable(f"{name}{index}") for index in (0, 2)]
    assert sorted(path.stem for path in labels.iterdir()) == [f"{name}0", f"{name}2"]
