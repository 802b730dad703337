"""A fleet of one worker against ``runtime.video``, on the same files in turn.

``python -m benchmarks.studies.fleet_efficiency OUT BUNDLE CORES ROUNDS VIDEO...``

Loading counts in neither.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import msgspec

from runtime import cli
from runtime.bundle.shipped import find_bundle
from runtime.config import VideoConfig
from runtime.fleet.__main__ import main as fleet
from runtime.fleet.config import FleetConfig
from runtime.fleet.plan import plan
from runtime.fleet.work import Bench, Job, segment_span
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
        video(replace(asked, json=report, force=True))
        told = msgspec.json.decode(report.read_bytes())
        frames += told["frames_written"]
        seconds += told["frames_written"] / told["fps"]
    return frames / seconds


def fleet_fps(videos: list[str], bundle: str, cores: int, out: Path) -> float:
    """Frames a second of a fleet with one worker."""
    report = out.with_suffix(".json")
    fleet(FleetConfig(tuple(videos), out, bundle, cores=cores, backend="openvino", json=report))
    told = msgspec.json.decode(report.read_bytes())
    return float(told["frames"] / told["seconds"])


def cpu_ms(videos: list[str], bundle: str, cores: int, out: Path) -> tuple[float, float]:
    """CPU milliseconds a frame of ``runtime.video``, and of the work on spans, without Ray."""
    spent, frames = [0.0, 0.0], 0
    job = Job(str(find_bundle(Path(bundle))), out, "openvino", threads=cores)
    with Bench(job) as bench:
        run = Run(open_source(videos[0]), bench.segmenter, Path(bundle))
        for path, found in plan(videos, 60.0, ""):
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


def main(out: Path, bundle: str, cores: int, rounds: int, videos: list[str]) -> None:
    """All in turn; the ratios of each round, and their medians."""
    out.mkdir(parents=True, exist_ok=True)
    speeds, costs = [], []
    for number in range(rounds):
        one, other = cpu_ms(videos, bundle, cores, out / f"cpu{number}")
        costs.append(one / other)
        cli.say(f"CPU: video {one:.1f} ms, spans {other:.1f} ms a frame, {costs[-1]:.3f}", cli.err)
        serial = serial_fps(videos, bundle, cores, out)
        ours = fleet_fps(videos, bundle, cores, out / f"round{number}")
        speeds.append(ours / serial)
        cli.say(f"clock: video {serial:.2f} fps, fleet {ours:.2f}, {speeds[-1]:.3f}", cli.err)
    cli.say(f"fleet over video: {median(speeds):.3f} by the clock, {median(costs):.3f} by CPU")


if __name__ == "__main__":
    place, model, count, times, *paths = sys.argv[1:]
    main(Path(place), model, int(count), int(times), paths)
