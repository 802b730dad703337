"""``python -m benchmarks``: which variant, which precision, which engine, on this machine?"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.gate import judge
from benchmarks.gate.rule import EXAMPLE
from benchmarks.report import page
from benchmarks.report.terminal import tell
from benchmarks.results import Results
from benchmarks.run import frames, plan
from benchmarks.run.probes import QUICK, Pace
from benchmarks.run.runner import Settings
from benchmarks.run.session import measured
from runtime import cli
from runtime.backends.registry import BACKENDS, installed_backends, on_device
from runtime.errors import HedgeError
from runtime.numbers import settle
from runtime.outputs.checks import check_outputs
from runtime.sources.open import open_source

QUICK_MINUTES = 2.7
CALIBRATION = 128  # images, as many as an export takes unless told


@dataclass(frozen=True)
class Benchmark:
    """Measure bundles in every engine, beside PyTorch and the bare libraries, latency and mIoU
    together, and write report.html, report.md and report.json.

    Each cell runs in a process of its own; all are timed in turn, round after round, until the
    intervals of their medians are within ±2 % or the time is over. A cell that crashes or hangs is
    named in the report, and the rest goes on.

    Examples:

    python -m benchmarks --data camvid --video drive.mp4

    python -m benchmarks --bundles bundles/dlse-int8 --data camvid --baseline report.json \
--fail-if "latency > 1.10 or miou < -0.5"
    """

    bundles: tuple[Path, ...] = ()
    """Bundles, folders of bundles, or street19, the shipped model. Default: all under bundles/."""
    data: Path | None = None
    """Data set whose val split is answered and scored, or images without labels to time with.
    Default: frames of the video, else drawn streets, and no accuracy."""
    video: Path | None = None
    """Video that the pipeline is taken apart on. Default: no such table."""
    backends: tuple[str, ...] = ()
    """Engines. Default: all installed here."""
    device: str = ""
    """What the engines compute on: CPU, GPU, NPU or AUTO of OpenVINO, or a provider of ONNX
    Runtime (CUDA, TensorRT, DirectML, CoreML, QNN, …); those that have it here are measured.
    PyTorch runs beside them on an NVIDIA GPU, else on the CPU. Default: the CPU, and the GPU of
    TensorRT's engines."""
    peers: plan.Peers = "first"
    """Which models PyTorch, ONNX Runtime as one first uses it, and the bare libraries run too.
    nncf: all models, beside the INT8 that NNCF makes of their FP32 bundles, with and without its
    accuracy control, which takes minutes by itself; it calibrates with --data (extra: nncf)."""
    checkpoints: tuple[Path, ...] = ()
    """Runs that the bundles were made of, for PyTorch. Default: found under runs/ by name."""
    threads: int = 2
    """CPU threads of each engine; 0 leaves it to the library."""
    budget: float = 20.0
    """Minutes to spend; each cell is timed 15 times, however long that takes."""
    quick: bool = False
    """Three minutes: fewer frames and peers, wider intervals."""
    frames: int | None = None
    """Score on at most so many frames. Default: 128, with --quick 16."""
    timeout: float = 60.0
    """Seconds after which a cell that does not answer is given up; five times that to start, and
    half an hour more where NNCF controls accuracy."""
    out: Path = Path("reports")
    """Folder of the report."""
    baseline: Path | None = None
    """report.json of an earlier run to compare with."""
    fail_if: str = EXAMPLE
    """With --baseline: what is worse, so that the command ends with 4. Only what is beyond the
    noise counts."""

    def __post_init__(self) -> None:
        settle(self)
        if unknown := set(self.backends) - BACKENDS.keys():
            raise HedgeError(f"--backends {min(unknown)}: choose from {', '.join(BACKENDS)}")
        count = 1 if self.frames is None else self.frames
        if self.threads < 0 or min(self.budget, self.timeout, count) <= 0:
            raise HedgeError("--budget, --timeout and --frames are above 0, --threads 0 or more")
        for path in self.checkpoints:
            if not path.exists():
                raise HedgeError(
                    f"{path}: no such run; --checkpoints takes what python -m train writes"
                )

    @property
    def seconds(self) -> float:
        """To spend."""
        return 60 * (min(self.budget, QUICK_MINUTES) if self.quick else self.budget)

    @property
    def pace(self) -> Pace:
        """How long to look at each cell."""
        pace = QUICK if self.quick else Pace()
        return replace(pace, frames=self.frames or pace.frames)


def benchmark(config: Benchmark) -> Results:
    """Measure as the command does, write the report, and give what it holds. Raises HedgeError."""
    with tempfile.TemporaryDirectory() as folder:
        results, interrupted = _measured(config, Path(folder))
        page.write(results, config.out, Path(folder))
    if interrupted:
        raise KeyboardInterrupt
    return results


def main(config: Benchmark) -> None:
    """The command."""
    rule = judge.parse(config.fail_if)
    baseline = Results.load(config.baseline) if config.baseline else None
    with tempfile.TemporaryDirectory() as folder:
        results, interrupted = _measured(config, Path(folder))
        tell(page.write(results, config.out, Path(folder)), config.out)
        if interrupted:
            raise KeyboardInterrupt
        if baseline is not None:  # compared last: whatever comes of it, the report is there
            verdict = judge.judge(results, baseline, rule)
            page.write(results, config.out, Path(folder), verdict)
            for note in verdict.notes:
                cli.warn(note)
            verdict.require()
            cli.say(str(verdict))


def _measured(config: Benchmark, scratch: Path) -> tuple[Results, bool]:
    """What was found, and whether it was interrupted: then it is what there was by then."""
    if config.peers == "nncf":
        cli.require(("nncf",), "nncf")
    outputs = [config.out / name for name in page.FILES]
    check_outputs(outputs, None, [config.baseline] if config.baseline else [], force=True)
    models, backends = plan.models(config.bundles), config.backends or installed_backends()
    places = on_device(config.device, backends) if config.device else dict.fromkeys(backends, "")
    if config.video is not None:
        with open_source(str(config.video)) as source:
            next(iter(source))  # what is wrong with it is told before the slow part
    shown = frames.gather(config.data, config.video, config.pace.frames, scratch)
    images = frames.calibration(config.data, CALIBRATION) if config.peers == "nncf" else ()
    asked = plan.Asked(tuple(places), config.peers, config.checkpoints, config.quick, images)
    planned = plan.plan(models, asked, plan.Shared(config.threads, shown.path, scratch, places))
    settings = Settings(
        config.threads, config.seconds, config.pace, config.timeout, config.video, config.quick,
        on_cpu=config.device.casefold() in ("", "cpu"),
    )  # fmt: skip
    results, interrupted = measured(planned, shown, settings, scratch)
    notes = [f"our engines and the bare libraries on {config.device}"] if config.device else []
    return replace(results, notes=[*results.notes, *notes]), interrupted


if __name__ == "__main__":
    cli.run(Benchmark, main, "python -m benchmarks")
