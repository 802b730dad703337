"""What a fleet says of what it did: in the units and the numbers that a person would use."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.bundle.classes import CITYSCAPES
from runtime.errors import IncompleteError
from runtime.fleet.driver import Progress
from runtime.fleet.page import write_page
from runtime.fleet.plan import Span, Unplanned, plan
from runtime.fleet.report import Report, Summary, counted, lasting, reported, speed, tell
from runtime.fleet.shards import row_of
from runtime.fleet.work import Bench, Job, segment_span


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0, "0.0 s"), (0.28, "0.3 s"), (9.12, "9.1 s"), (99.4, "99 s"), (99.6, "1.7 min"),
        (720.0, "12 min"), (5969.0, "99 min"), (5971.0, "1.7 h"), (3.6e6, "1,000 h"),
    ],
)  # fmt: skip
def test_durations_have_the_unit_that_they_are_long_in(seconds: float, told: str) -> None:
    assert lasting(seconds) == told


def test_numbers_of_things_and_speeds() -> None:
    assert [counted(n, "span") for n in (0, 1, 2, 1000)] == [
        "0 spans", "1 span", "2 spans", "1,000 spans",
    ]  # fmt: skip
    assert [counted(n, "retry", "retries") for n in (1, 2)] == ["1 retry", "2 retries"]
    assert [speed(x) for x in (0.0, 0.0042, 0.9, 1234.0)] == [
        "0 ×", "0.0042 ×", "0.90 ×", "1,234 ×",
    ]  # fmt: skip


def wordy(text: str) -> list[str]:
    """What nobody would say: "1 spans", "0.00 hours"."""
    return re.findall(r"\b1 [a-z]{2,}s\b|\b0\.0+ [hm×].{0,9}", text)


def page_of(report: Report, summary: Summary, job: Job) -> str:
    """What the page says, without its style and marks."""
    write_page(job.out / "report.html", report, summary, job.shards, "tiny")
    page = (job.out / "report.html").read_text()
    return re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)


def test_a_short_video_is_told_in_seconds_and_one_is_one(
    shared_bundle: Path, tmp_path: Path, make_clip: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    video = str(make_clip(tmp_path / "a.mp4", 7))
    job = Job(str(shared_bundle), tmp_path / "out", "onnxruntime", threads=1)
    ((_, spans),) = plan([video], 60, "")
    assert isinstance(spans, list)
    with Bench(job) as bench:
        summary = Summary(bench.segmenter.classes)
        segment_span(spans[0], bench)
        summary.add(*job.shards.read(spans[0].id))
    now = Progress(total=1, done=1, video_s=summary.seconds, frames=7, retries=1, most=1)
    report = reported([video], spans, [], now, summary, 2.0, job.out)
    assert tell(report, "tiny", None) == 0
    told, page = capsys.readouterr().out, page_of(report, summary, job)
    length = lasting(summary.seconds)
    assert length.endswith(" s") and length != "0.0 s"
    for words in (f"1, {length}, 7 frames", "1 of 1 done", "real time", "1, 1 span handed out"):
        assert words in told
    for words in (f"{length} of 1 video through tiny", "in 1 span ", "1 span handed", "of 1 part "):
        assert words in page
    assert not wordy(told) and not wordy(page)


def test_parts_are_spans_and_videos_that_have_none(tmp_path: Path) -> None:
    spans = [Span(f"s{number}", "a.mp4", number, number + 1) for number in range(3)]
    failed = row_of(spans[1], attempts=3)
    failed.error = "it does not decode"
    now = Progress(total=3, done=3, most=1, failures=[failed])
    poison = Unplanned("poison.mp4", "no video")
    summary = Summary(CITYSCAPES)
    report = reported(["a.mp4", "poison.mp4"], spans, [poison], now, summary, 1.0, tmp_path)
    with pytest.raises(IncompleteError, match=r"^2 of 4 parts failed \(poison\.mp4: no video\)"):
        tell(report, "tiny", None)
    alone = replace(report, spans=0, spans_failed=0, failures=report.failures[:1])
    with pytest.raises(IncompleteError, match=r"^1 of 1 part failed"):
        tell(alone, "tiny", None)
