"""A fleet of one worker against ``runtime.video``, on the same files in turn."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tyro

from runtime import cli
from runtime.bundle.shipped import find_bundle
from runtime.config import VideoConfig
from runtime.errors import HedgeError
from runtime.fleet.__main__ import main as fleet
from runtime.fleet.config import FleetConfig
from runtime.fleet.plan import plan
from runtime.fleet.work import Bench, Job, segment_span
from runtime.numbers import Count, Positive
from runtime.outputs.writer import Wanted, Writer
from runtime.pipeline import stream
from runtime.run import Run
from runtime.sources.open import open_source
from runtime.video import main as video


def serial_fps(videos: list[str], bundle: str, cores: int, out: Path) -> float:
    """Frames a second of one process, a file after the other."""
    frames, seconds, report = 0, 0.0, out / "video.json"
    for path in videos:
        asked = VideoConfig(path, Path(bundle), "openvino", threads=cores, overlay=False)
        if code := video(replace(asked, json=report, force=True)):
            sys.exit(code)  # interrupted
        told = msgspec.json.decode(report.read_bytes())
        frames += told["frames_written"]
        seconds += told["frames_written"] / told["fps"]
    return frames / seconds


def fleet_fps(
    videos: list[str], bundle: str, cores: int, span_s: float, out: Path
) -> tuple[float, float]:
    """Frames a second of a fleet with one worker, and the share of its time within spans' turns."""
    report = out.with_suffix(".json")
    asked = FleetConfig(tuple(videos), out, bundle, span=span_s, cores=cores, backend="openvino")
    fleet(replace(asked, json=report))
    told = msgspec.json.decode(report.read_bytes())
    work_s = pc.sum(pq.read_table(out / "spans.parquet")["work_s"]).as_py()
    return told["frames"] / told["seconds"], work_s / told["seconds"]


def cpu_ms(
    videos: list[str], bundle: str, cores: int, span_s: float, out: Path
) -> tuple[float, float]:
    """CPU milliseconds a frame of ``runtime.video``, and of the work on spans, without Ray."""
    spent, frames = [0.0, 0.0], 0
    job = Job(str(find_bundle(Path(bundle))), out, "openvino", threads=cores)
    with Bench(job) as bench:
        run = Run(open_source(videos[0]), bench.segmenter, Path(bundle))
        for path, found in plan(videos, span_s, ""):
            start = time.process_time()
            with (
                open_source(path) as source,
                Writer(source, bench.segmenter, Wanted(), None) as writer,
            ):
                run.begin()
                for prediction in stream(source, bench.segmenter):
                    run.score(prediction)
                    status = run.status(prediction)
                    run.add(prediction, writer.write(prediction, status, {}))
                    frames += 1
            middle = time.process_time()
            assert isinstance(found, list)
            for span in found:
                segment_span(span, bench)
            spent[0] += middle - start
            spent[1] += time.process_time() - middle
    return 1e3 * spent[0] / frames, 1e3 * spent[1] / frames


@dataclass(frozen=True)
class FleetEfficiency:
    """Measure a fleet of one worker against runtime.video, on the same files in turn.

    Loading counts in neither: not Ray's start, not that of the engines. runtime.video counts from a
    video that is open to its last frame; the fleet from a worker that is ready to the last span's
    file, so that its first video is opened, and its last file written, on its own account.

    Example: python -m benchmarks.studies.fleet_efficiency scratch street19 2 7 4 a.mp4 b.mp4
    """

    out: Annotated[Path, tyro.conf.Positional]
    """Folder for what both write."""
    bundle: Annotated[str, tyro.conf.Positional]
    """Bundle, or street19, the shipped one."""
    cores: Annotated[Count, tyro.conf.Positional]
    """CPU cores of each."""
    rounds: Annotated[Count, tyro.conf.Positional]
    """How often each is timed."""
    span: Annotated[Positive, tyro.conf.Positional]
    """Seconds of a span."""
    videos: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Several, each of several spans, and a minute of them at least."""


def main(config: FleetEfficiency) -> None:
    """CPU once, then both in turn by the clock; the ratio of each round, and their median."""
    out, bundle, cores, span_s = config.out, config.bundle, config.cores, config.span
    videos = list(config.videos)
    if not videos:
        raise HedgeError("no videos: name some behind the seconds of a span")
    out.mkdir(parents=True, exist_ok=True)
    one, other = cpu_ms(videos, bundle, cores, span_s, out / "cpu")
    cli.say(f"CPU: video {one:.1f} ms, spans {other:.1f} ms a frame, {one / other:.3f}")
    ratios = []
    for number in range(config.rounds):
        serial = serial_fps(videos, bundle, cores, out)
        ours, within = fleet_fps(videos, bundle, cores, span_s, out / f"round{number}")
        ratios.append(ours / serial)
        cli.say(
            f"clock: video {serial:.2f} fps, fleet {ours:.2f}, {ratios[-1]:.3f}; "
            f"{within:.1%} of the fleet's time within spans"
        )
    cli.say(f"fleet over video: {median(ratios):.3f} by the clock, {one / other:.3f} by CPU")


if __name__ == "__main__":
    cli.run(FleetEfficiency, main, "python -m benchmarks.studies.fleet_efficiency")
