"""``python -m benchmarks``: every bundle in every engine, side by side."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks import report
from benchmarks.latency import interleaved
from runtime import cli, files
from runtime.engine import Engine, installed_backends, load_engine
from runtime.errors import HedgeError
from runtime.manifest import BUNDLES, FILE_NAME
from runtime.metrics import Latency
from runtime.sources import open_source


@dataclass(frozen=True)
class Benchmark:
    """Compare bundles and engines on this machine: latency measured now, mIoU from each bundle.

    All engines are timed in turn within each round, so that a machine whose speed drifts treats
    them alike: trust the ratios more than the milliseconds.

    Example: python -m benchmarks --source drive.mp4 --threads 2
    """

    bundles: tuple[Path, ...] = ()
    """Bundles to compare, the first is the yardstick. Default: all under bundles/."""
    backends: tuple[str, ...] = ()
    """Engines. Default: all installed here."""
    source: str | None = None
    """Video or images to feed. Default: random noise."""
    rounds: int = 30
    """How often each engine is timed."""
    threads: int = 0
    """CPU threads of each engine; 0 leaves it to the library."""
    out: Path | None = None
    """Folder for report.json and report.md."""


FRAMES = 16  # distinct frames, fed in turn


def main(config: Benchmark) -> None:
    """The command."""
    bundles = config.bundles or tuple(sorted(p.parent for p in BUNDLES.glob(f"*/{FILE_NAME}")))
    if not bundles:
        raise HedgeError(f"{BUNDLES}: no bundles here; make one: python -m export")
    frames = _frames(config.source)
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for bundle in bundles:
            for backend in config.backends or installed_backends():
                with cli.err.status(f"loading {bundle.name} in {backend}"):
                    engine = load_engine(bundle, backend, config.threads)
                engines[f"{bundle} {backend}"] = stack.enter_context(engine)
        rounds = track(range(config.rounds), "timing", console=cli.err)
        times = interleaved(engines, frames, rounds)
    rows = _rows(engines, times, [b for b in bundles for _ in range(len(engines) // len(bundles))])
    result = report.Report(report.machine(), config.rounds, config.threads, rows)
    cli.out.print(result.to_table())
    if config.out:
        files.write_bytes(config.out / "report.json", result.to_json())
        files.write_bytes(config.out / "report.md", result.to_markdown().encode())
        cli.out.print(f"→ {config.out}/report.json, report.md", markup=False)


def _frames(source: str | None) -> list[np.ndarray]:
    if source is None:
        return list(
            np.random.default_rng(0).integers(256, size=(FRAMES, 360, 640, 3), dtype=np.uint8)
        )
    with open_source(source) as opened:
        return [frame.image for frame in islice(opened, FRAMES)]


def _rows(
    engines: dict[str, Engine], times: dict[str, Latency], bundles: list[Path]
) -> list[report.Measurement]:
    rows: list[report.Measurement] = []
    for (name, engine), bundle in zip(engines.items(), bundles, strict=True):
        manifest, batch = engine.manifest, engine.manifest.input.shape[0]
        p50, p95, p99 = (value / batch for value in times[name].percentiles().values() if value)
        miou, miou_on = report.accuracy(manifest, engine.backend)
        rows.append(
            report.Measurement(
                bundle=manifest.name,
                variant=manifest.variant,
                precision=manifest.precision,
                backend=engine.backend,
                input="×".join(str(n) for n in manifest.input.shape[:3]),
                p50=p50,
                p95=p95,
                p99=p99,
                fps=1e3 / p50,
                ratio=p50 / (rows[0].p50 if rows else p50),
                miou=miou,
                miou_on=miou_on,
                megabytes=sum((bundle / f).stat().st_size for f in manifest.files) / 1e6,
            )
        )
    return rows


if __name__ == "__main__":
    cli.run(Benchmark, main, "python -m benchmarks")
