"""Networks trained elsewhere: their own framework, the bare library and NNCF beside their bundles.

``python -m benchmarks.studies.foreign bundles --data camvid`` prints a Markdown table, a row for
each network that was exported in FP32 and INT8. All of a row runs in OpenVINO, in one process and
in turn, and times are told as ratios of medians: a busy machine is slow for all alike.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from benchmarks.cells import bare_library
from benchmarks.cells.engine import Scene
from benchmarks.cells.worker import Spec
from benchmarks.report.markdown import ruled
from benchmarks.run import frames
from benchmarks.run.plan import NNCF, Model, models
from runtime import cli
from runtime.accuracy.label_files import read_ids
from runtime.accuracy.metrics import ConfusionMatrix
from runtime.backends.base import Engine
from runtime.backends.registry import load_engine
from runtime.bundle.manifest import Precision
from runtime.errors import HedgeError
from runtime.latency import Interleaved, settled_ms
from runtime.segment import Segmenter, fill

BACKEND, TAIL = "openvino", "loop + tail"
HEAD = (
    "network", "FP32: its framework's labels %", "FP16", "mIoU FP32 %", "INT8 loses",
    "FP32 over INT8", "engine over bare loop",
)  # fmt: skip


@dataclass(frozen=True)
class Foreign:
    """Measure bundles of networks trained elsewhere beside NNCF and the bare library."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Bundles, or folders of them: of each network FP32, INT8 and, where there is one, FP16."""
    data: Path
    """Labelled data: train split to calibrate NNCF with, val split to score on."""
    control: bool = True
    """NNCF's accuracy control as well, which takes minutes a network."""
    threads: int = 2
    """CPU threads of each engine."""
    rounds: int = 31
    """How often each is timed."""
    frames: int = 32
    """Score on at most so many frames."""
    calibration: int = 128
    """Calibrate NNCF with so many images."""


def main(config: Foreign) -> None:
    """The command."""
    cli.require(("nncf",), "nncf")
    found = models(config.bundles)
    ways = NNCF if config.control else NNCF[:-1]
    head = (*HEAD, *(f"{way} over ours (loses)" for way in ways))
    with tempfile.TemporaryDirectory() as scratch:
        shown = frames.gather(config.data, None, config.frames, Path(scratch))
        if shown.classes is None:
            raise HedgeError(f"{config.data}: no labels to score on; --data takes a data set")
        for model in found:
            if why := shown.misfit(model.manifest):
                raise HedgeError(f"{model.name}: {why}")
        images = frames.calibration(config.data, config.calibration)
        for key in dict.fromkeys(model.key for model in found):
            alike = {m.manifest.precision: m for m in found if m.key == key}
            cli.say(ruled((head, _row(alike, ways, shown.scenes, images, config))))


def _row(
    alike: dict[Precision, Model], ways: tuple[str, ...], scenes: tuple[Scene, ...],
    images: tuple[Path, ...], config: Foreign,
) -> list[str]:  # fmt: skip
    from benchmarks.cells import nncf  # of an extra, which is asked for first

    if not alike.keys() >= {"fp32", "int8"}:
        name = next(iter(alike.values())).weights
        raise HedgeError(f"{name}: FP32 and INT8 are wanted; hedge export --fp32 --int8")
    full, ours = alike["fp32"].path, alike["int8"].path
    with ExitStack() as stack:
        engines: dict[str, Engine] = {
            "fp32": load_engine(full, BACKEND, config.threads),
            "int8": load_engine(ours, BACKEND, config.threads),
            TAIL: bare_library.loop(Spec("", ours, BACKEND, config.threads, full, full, TAIL)),
        }
        for way in ways:
            engines[way] = nncf.quantized(full, way, images, scenes, config.threads)
        for engine in engines.values():
            stack.enter_context(engine)
        ms = _timed(engines, scenes, config.rounds)
        miou = {name: _miou(engine, scenes) for name, engine in engines.items() if name != TAIL}
    lost = {name: f"{100 * (miou['fp32'] - value):.2f}" for name, value in miou.items()}
    return [
        alike["fp32"].weights,
        *(_agreement(alike.get(name)) for name in ("fp32", "fp16")),
        f"{100 * miou['fp32']:.2f}",
        lost["int8"],
        f"{ms['fp32'] / ms['int8']:.2f}×",
        f"{ms['int8'] / ms[TAIL]:.3f}×",
        *(f"{ms[way] / ms['int8']:.2f}× ({lost[way]})" for way in ways),
    ]


def _timed(engines: dict[str, Engine], scenes: tuple[Scene, ...], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, in turn on the same batch."""
    [batch] = {engine.manifest.input.shape for engine in engines.values()}
    frame = np.empty(batch, np.uint8)
    for slot in frame:
        fill(slot, scenes[0].read())

    def timed(engine: Engine) -> Callable[[np.ndarray], float]:
        return lambda pixels: settled_ms(partial(engine.infer, pixels))

    interleaved = Interleaved[np.ndarray]({name: timed(one) for name, one in engines.items()})
    for _ in cli.track(range(rounds), "timing in turn"):
        interleaved.round(frame)
    return interleaved.medians()


def _miou(engine: Engine, scenes: tuple[Scene, ...]) -> float:
    segmenter, confusion = Segmenter.of(engine), ConfusionMatrix(engine.manifest.classes)
    for scene in scenes:
        assert scene.label is not None
        confusion.update(read_ids(scene.label), segmenter(scene.read()))
    return float(confusion.miou())


def _agreement(model: Model | None) -> str:
    shares = model.manifest.measured.agreement.values() if model else ()
    return f"{100 * min(share or 0.0 for share in shares):.3f}" if shares else "–"


if __name__ == "__main__":
    cli.run(Foreign, main, "python -m benchmarks.studies.foreign")
