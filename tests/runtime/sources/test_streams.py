"""Which of several tracks is shown, and how it is turned and mirrored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from runtime.errors import HedgeError
from runtime.sources.base import Frame
from runtime.sources.open import open_source
from tests.equipment.videos import grey, number_of, set_matrix

Make = Callable[..., Path]


def frames_of(path: Path) -> list[Frame]:
    with open_source(str(path)) as source:
        return list(source)


MATRICES = {
    (1, 0, 0, 1): "as it is", (-1, 0, 0, 1): "left is right", (1, 0, 0, -1): "upside down",
    (-1, 0, 0, -1): "half a turn", (0, 1, 1, 0): "transposed", (0, 1, -1, 0): "turned right",
    (0, -1, 1, 0): "turned left", (0, -1, -1, 0): "transposed, half a turn",
}  # fmt: skip


@pytest.mark.parametrize("matrix", MATRICES)
def test_a_video_is_turned_and_mirrored_as_it_says(
    matrix: tuple[int, int, int, int], tmp_path: Path, make_clip: Make
) -> None:
    image = np.random.default_rng(0).integers(256, size=(16, 32, 3), dtype=np.uint8)
    clip = make_clip(tmp_path / "a.mp4", [image] * 2)
    set_matrix(clip, matrix)
    a, b, c, d = matrix
    ys, xs = np.mgrid[:16, :32]
    columns, rows = a * xs + c * ys, b * xs + d * ys
    expected = np.zeros((16, 32, 3) if a else (32, 16, 3), np.uint8)
    expected[rows - rows.min(), columns - columns.min()] = image
    for frame in frames_of(clip):
        assert np.abs(frame.image.astype(int) - expected).max() <= 4


# Height, what the file says of the track, and the grey of each track; the one to show is 7.
TRACKS = {
    "the default one": [(48, "", 1), (24, "default", 7)],
    "the larger one": [(24, "", 1), (48, "", 7), (24, "", 2)],
    "the larger of two defaults": [(24, "default", 1), (48, "default", 7), (96, "", 2)],
    "the first of the same": [(48, "default", 7), (48, "default", 1)],
}


@pytest.mark.parametrize("kind", TRACKS)
def test_of_several_tracks_one_is_shown(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w", options={"default_mode": "passthrough"}) as container:
        tracks = []
        for height, disposition, number in TRACKS[kind]:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = height, 64, "yuv420p"
            if disposition:
                stream.disposition = Disposition[disposition]
            tracks.append((stream, grey(number, (height, 64))))
        for stream, image in tracks * 10:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        for stream, _ in tracks:
            container.mux(stream.encode(None))
    frames = frames_of(path)
    assert len(frames) == 10
    assert {number_of(frame.image) for frame in frames} == {7}


def test_a_track_of_an_unknown_codec_is_one_line(tmp_path: Path, make_clip: Make) -> None:
    path = make_clip(tmp_path / "a.mkv", 5)
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_NOBODY/KNOWS/IT"[:15]))
    with pytest.raises(HedgeError, match=r"a\.mkv: has no video track"):
        frames_of(path)
