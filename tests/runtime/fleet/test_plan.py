"""The plan of a run: videos and labels that belong together, and what each span is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import HedgeError
from runtime.fleet.places import find_videos, local_bundle
from runtime.fleet.plan import Span, Unplanned, plan
from runtime.fleet.run import check_labels, check_scored, label_names
from runtime.fleet.shards import row_of
from runtime.fleet.work import Bench, Job, segment_span
from tests.runtime.fleet.videos import one_of, planned


def test_a_video_that_is_none_is_named_and_the_others_are_planned(tmp_path: Path) -> None:
    poison = tmp_path / "poison.mp4"
    poison.write_bytes(b"no video" * 99)
    good = one_of("mp4", tmp_path)
    (_, bad), (_, spans) = plan([str(poison), str(good)], 60, "")
    assert isinstance(bad, Unplanned) and str(poison) in bad.why
    assert isinstance(spans, list) and len(spans) == 1


def test_a_name_that_is_no_text_is_told_and_the_others_are_planned(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    good = make_clip(tmp_path / "new\nline.mp4", 3)
    try:
        odd = make_clip(tmp_path / "a.mp4", 3).rename(tmp_path / "stra\udcdfe.mp4")
    except (OSError, UnicodeEncodeError):
        pytest.skip("no such name can be given on this file system")
    found = dict(plan([str(good), str(odd)], 60.0, "key"))
    assert isinstance(found[str(good)], list)
    unplanned = found[str(odd)]
    assert isinstance(unplanned, Unplanned) and "no text (UTF-8)" in unplanned.why
    json.dumps(unplanned.video, ensure_ascii=False).encode()


def test_a_result_depends_on_the_video_and_on_what_is_asked(tmp_path: Path) -> None:
    video = one_of("mp4", tmp_path)
    ids = [span.id for span in planned(video, 0.5)]
    ((_, others),) = plan([str(video)], 0.5, "another bundle")
    assert isinstance(others, list)
    assert ids == [span.id for span in planned(video, 0.5)]
    assert not set(ids) & {span.id for span in others}


def test_a_result_depends_on_the_labels_of_the_video_alone(tmp_path: Path) -> None:
    video, labels = str(one_of("mp4", tmp_path)), tmp_path / "labels"

    def id() -> str:
        ((_, spans),) = plan([video], 60, "", labels)
        assert isinstance(spans, list)
        return spans[0].id

    (own := labels / Path(video).stem).mkdir(parents=True)
    (label := own / "000000.png").write_bytes(b"first")
    before = id()
    (labels / "other").mkdir()
    (labels / "other" / "000000.png").write_bytes(b"of another video")
    assert id() == before
    label.write_bytes(b"corrected")
    assert id() != before


def test_videos_and_bundles_by_address(
    shared_bundle: Path, tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    video = make_clip(tmp_path / "a.mp4", 7)
    address = f"file://{tmp_path}/*.mp4"
    assert find_videos([str(tmp_path / "*.mp4"), address]) == [str(video), f"file://{video}"]
    with pytest.raises(HedgeError, match="matches no file"):
        find_videos([str(tmp_path / "*.mov")])
    bundle = local_bundle(f"file://{shared_bundle}")
    assert bundle != shared_bundle and bundle == local_bundle(f"file://{shared_bundle}")
    job = Job(f"file://{shared_bundle}", tmp_path / "out", "onnxruntime", threads=1)
    ((_, spans),) = plan([f"file://{video}"], 60, "")
    assert isinstance(spans, list)
    with Bench(job) as bench:
        assert segment_span(spans[0], bench).frames == 7


@pytest.mark.parametrize("ask", [lambda address: find_videos([address]), local_bundle])
def test_an_address_that_nothing_here_opens_is_one_line_without_its_password(
    ask: Callable[[str], object],
) -> None:
    """Its file system may not be installed, as s3fs; fsspec says which it is."""
    with pytest.raises(HedgeError, match=r"^unheard://\*\*\*@place/x: .*Protocol not known"):
        ask("unheard://user:secret@place/x")


def test_labels_are_of_one_video_each(tmp_path: Path) -> None:
    labels, videos = tmp_path / "labels", ["/mon/front.mp4", "/mon/rear.mp4", "/tue/front.mkv"]
    with pytest.raises(HedgeError, match=r"labels: no such folder of labels"):
        check_labels(labels, videos)
    labels.mkdir()
    (labels / "000000.png").touch()  # as hedge video --labels has them
    with pytest.raises(HedgeError, match=r"labels of /mon/front.mp4 lie in \S+/labels/front$"):
        check_labels(labels, videos)
    (labels / "rear").mkdir()
    check_labels(labels, videos)
    (labels / "front").mkdir()
    with pytest.raises(HedgeError, match=r"front: labels of /mon/front.mp4 or of /tue/front.mkv"):
        check_labels(labels, videos)
    check_labels(labels, videos[:2])


def test_labels_of_which_none_is_of_a_frame_are_told(tmp_path: Path) -> None:
    labels, videos = tmp_path / "labels", ["/mon/front.mp4", "/mon/rear.mp4", "/mon/none.mp4"]
    spans = [Span(f"{video}{at}", video, at, None) for video in videos for at in (0, 9)]
    rows = [row_of(span, 1) for span in spans]
    for name in ("front", "rear"):
        (labels / name).mkdir(parents=True)
        (labels / name / "frame_000001.png").touch()  # as ffmpeg's frames are often called
    rows[0].confusion = [1] * 9  # a span of a video is enough
    with pytest.raises(HedgeError, match=r"/rear: no label here belongs to a frame of /mon/rear"):
        check_scored(labels, rows)
    rows[3].confusion = [1] * 9
    check_scored(labels, rows)


def test_labels_are_called_as_their_video_whichever_are_done() -> None:
    videos = ["/mon/front.mp4", "/mon/rear.mp4", "/tue/front.mp4", "/wed/front.mkv"]
    assert list(label_names(videos)) == videos
    assert list(label_names(videos).values()) == ["front", "rear", "front-2", "front-2-2"]
