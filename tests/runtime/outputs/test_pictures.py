"""Photos as sources: upright pictures of their own size, where asked for or by default."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from runtime.errors import HedgeError, OutputError
from runtime.video import VideoConfig, main

Make = Callable[..., Path]
BLUE, RED = (0, 0, 255), (255, 0, 0)  # RGB; also the colours of the tiny bundle's classes


@pytest.fixture
def run(shared_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command in this process, in an empty folder of its own; its exit code."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run_command(source: Path | str, **options: Any) -> int:
        return main(VideoConfig(str(source), shared_bundle, "onnxruntime", **options))

    return run_command


def save_photo(path: Path, orientation: int = 1, size: tuple[int, int] = (61, 90)) -> Path:
    """A JPEG whose stored picture is blue above and red below; of a size that is no even number."""
    height, width = size
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[: height // 2], rgb[height // 2 :] = BLUE, RED
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(rgb).save(path, quality=95, exif=exif)
    return path


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG" and image.mode == "RGB"
        return np.asarray(image)


def test_a_photo_gives_a_picture_and_a_line_that_says_where(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = save_photo(tmp_path / "photo.jpg", orientation=6)  # stored on its side
    assert run(photo) == 0
    picture = read(tmp_path / "here" / "photo-segmented.png")
    assert picture.shape == (90, 61, 3)
    assert np.abs(picture[20, 50].astype(int) - BLUE).max() < 9  # blue lies right when upright
    assert np.abs(picture[20, 10].astype(int) - RED).max() < 9
    assert "→ photo-segmented.png" in capsys.readouterr().out
    with pytest.raises(OutputError, match=r"photo-segmented\.png: exists already.*--force"):
        run(photo)
    assert run(photo, force=True) == 0


def test_a_folder_of_photos_gives_a_folder(run: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "trip").mkdir()
    sizes = {"a": (40, 30), "b": (31, 57)}
    for name, size in sizes.items():
        save_photo(tmp_path / "trip" / f"{name}.jpg", size=size)
    assert run(tmp_path / "trip") == 0
    folder = tmp_path / "here" / "trip-segmented"
    assert {p.stem: read(p).shape[:2] for p in folder.iterdir()} == sizes


def test_out_says_where_and_what(
    run: Callable[..., int], tmp_path: Path, decode: Callable[[Path], list[np.ndarray]]
) -> None:
    photo, report = save_photo(tmp_path / "photo.jpg"), tmp_path / "r.json"
    assert run(photo, out=Path("mine.png"), json=report, overlay=False) == 0
    told = json.loads(report.read_text())
    assert (told["pictures"], told["videos"]) == ("mine.png", [])
    assert {tuple(c) for c in read(Path("mine.png")).reshape(-1, 3).tolist()} == {BLUE, RED}
    assert run(photo, out=Path("folder")) == 0
    assert read(Path("folder/photo.png")).shape == (61, 90, 3)
    assert run(photo, out=Path("film.mp4")) == 0
    assert len(decode(Path("film.mp4"))) == 1


@pytest.mark.parametrize(
    ("out", "said"),
    [("one.png", "one picture for 2 photos"), ("o.jpg", "unknown format"), ("same", "same names")],
)
def test_places_that_do_not_fit_are_refused(
    out: str, said: str, run: Callable[..., int], tmp_path: Path, make_images: Make
) -> None:
    with pytest.raises(HedgeError, match=said):
        run(make_images(tmp_path / "images", 2), out=Path(out), save_labels=Path("same"))


def test_pictures_never_lie_among_the_photos(
    run: Callable[..., int], tmp_path: Path, make_images: Make
) -> None:
    photos = make_images(tmp_path / "photos", 2)
    with pytest.raises(HedgeError, match="holds inputs"):
        run(photos, out=photos, force=True)


def test_nothing_is_drawn_where_only_numbers_are_asked_for(
    run: Callable[..., int], tmp_path: Path, make_images: Make
) -> None:
    assert run(make_images(tmp_path / "photos", 1), json=Path("r.json")) == 0
    assert [path.name for path in Path.cwd().iterdir()] == ["r.json"]


def test_the_look_is_as_asked(run: Callable[..., int], tmp_path: Path) -> None:
    photo = save_photo(tmp_path / "photo.png", size=(120, 160))
    assert run(photo, only="blue", opacity=1.0) == 0
    picture = read(Path("photo-segmented.png")).astype(int)
    assert (picture[30, 80] == BLUE).all() and (picture[70, 150] == RED).all(), "red is the photo's"
    for wrong in ({"only": "red,sky"}, {"opacity": 1.5}, {"overlay": False, "style": "outline"}):
        with pytest.raises(HedgeError, match=r"no class|--opacity|--no-overlay"):
            run(photo, out=Path("never.png"), **wrong)
    assert not Path("never.png").exists()


def test_two_photos_of_one_name_are_not_written_over_each_other(
    run: Callable[..., int], tmp_path: Path, make_images: Make
) -> None:
    one, two = (make_images(tmp_path / name, 1) / "f0.png" for name in ("x", "y"))
    with pytest.raises(HedgeError, match=r"f0-segmented\.png: two sources"):
        run(one, more=(str(two),))
    assert run(one, more=(str(two),), out=Path("o.png")) == 0
    assert read(Path("o-1.png")).shape == read(Path("o-2.png")).shape
