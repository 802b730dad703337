"""``python -m benchmarks.speed``: times faster than PyTorch; what SE, edges and our code cost.

The matrix of ``python -m benchmarks`` on models that were never trained, timed and nothing else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.report import page
from benchmarks.report.terminal import tell
from benchmarks.report.view import TAIL
from benchmarks.results import YARDSTICK, Results
from benchmarks.run import plan
from benchmarks.run.plan import Planned, Shared
from benchmarks.run.session import INTERRUPTED, joined, timed
from benchmarks.studies.case import Case
from export import LIBRARIES
from export.config import PRECISIONS, Precision
from runtime import cli
from runtime.backends.registry import BACKENDS, installed_backends
from runtime.bundle.manifest import BUNDLES
from runtime.errors import HedgeError
from train.config import DEFAULT_EDGES, EdgeName, VariantName

SLOW = {("onnxruntime", "fp16")}  # emulated on a CPU: timed only where asked for
# They tell what SE and edges cost.
COMPARED: tuple[tuple[VariantName, EdgeName], ...] = (
    ("vanilla", DEFAULT_EDGES), ("dlse", DEFAULT_EDGES), ("dlse_hed", "lite"),
    ("dlse_hed", DEFAULT_EDGES),
)  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """Time models in every CPU engine against eager PyTorch; tell what SE, edges and our code cost.

    The models have random weights, on which speed does not depend, 19 classes and output stride 16.
    They are exported once and kept in --out. The engines of a backbone and size
    take turns, each in a process of its own, so that a machine whose speed drifts treats them
    alike: trust the ratios more than the milliseconds.

    Example: python -m benchmarks.speed --cases mobilenet_v2:256x512 --precisions fp32 int8
    """

    cases: tuple[str, ...] = (
        "resnet50:256x512", "resnet50:512x1024",
        "mobilenet_v2:256x512", "mobilenet_v2:512x1024",
    )  # fmt: skip
    """What to time: BACKBONE:HEIGHTxWIDTH (dlse_hed), or BACKBONE:VARIANT:HEIGHTxWIDTH, where other
    edges and another decoder may follow the variant: dlse_hed-lite, dlse_hed-concat."""
    precisions: tuple[Precision, ...] = PRECISIONS
    """Bundles to time; what things cost is measured in the last."""
    slow: bool = False
    """Also FP16 in ONNX Runtime, which computes it in FP32 on a CPU, with casts around."""
    rounds: int = 40
    """How often each engine is timed."""
    threads: int = 2
    """CPU threads of PyTorch and of each engine."""
    out: Path = BUNDLES / "speed"
    """Folder of the bundles, and of report.html, report.md and report.json."""
    force: bool = False
    """Export again, as after a change of the models."""

    def __post_init__(self) -> None:
        if not self.cases or not self.precisions:
            raise HedgeError("--cases and --precisions: name at least one")
        if min(self.rounds, self.threads) < 1:
            raise HedgeError("--rounds and --threads are at least 1")


def main(config: Speed) -> None:
    """The command."""
    cli.require(LIBRARIES, "benchmarks")
    cases = [Case.parse(text) for text in config.cases]
    found: list[Results] = []
    interrupted = False
    with tempfile.TemporaryDirectory() as scratch:
        for key in dict.fromkeys((case.backbone, case.size) for case in cases):
            asked = [case for case in cases if (case.backbone, case.size) == key]
            make = partial(_planned, asked, config)
            try:
                results, interrupted = timed(make, config.threads, config.rounds, Path(scratch))
                found.append(results)
            except KeyboardInterrupt:  # while a model was exported: others may have been timed
                if not found:
                    raise
                interrupted = True
                found[-1] = replace(found[-1], notes=[*found[-1].notes, INTERRUPTED])
            if interrupted:
                break
    results = replace(joined(found), data="random weights, drawn streets")
    tell(page.write(results, config.out), config.out)
    if interrupted:
        raise KeyboardInterrupt


def _planned(asked: Sequence[Case], config: Speed, shared: Shared) -> Iterator[Planned]:
    """The asked models, of one backbone and size, in all precisions beside PyTorch; in the last
    precision also what they are made of, and the bare library."""
    # Not at the start: --help and a wrong option wait for no PyTorch.
    from benchmarks.studies.untrained import bundle, saved_checkpoint
    from train.device import cpu_has_bf16

    last, first = config.precisions[-1], asked[0]
    parts = [Case(first.backbone, name, first.size, hed, first.decoder) for name, hed in COMPARED]
    for case in dict.fromkeys((*asked, *parts)):
        precisions = config.precisions if case in asked else (last,)
        for precision in precisions:
            [model] = plan.models([bundle(case, precision, config.out, config.force)])
            for backend in _backends(precision, config):
                yield plan.engine(model, backend, shared)
                if (case, precision) == (parts[-1], last):
                    yield from plan.bare(model, backend, (TAIL,), shared)
        if case in asked:
            ways = [YARDSTICK, "pytorch fp32", *["pytorch bf16 channels_last"] * cpu_has_bf16()]
            weights = (saved_checkpoint(case, config.out).absolute(),)
            yield from plan.peers(model, ways, weights, first=False, shared=shared)


def _backends(precision: Precision, config: Speed) -> list[str]:
    """Engines on the CPU, as PyTorch is here, without those known to be slow."""
    found = [name for name in installed_backends() if BACKENDS[name].device == "cpu"]
    return [name for name in found if config.slow or (name, precision) not in SLOW]


if __name__ == "__main__":
    cli.run(Speed, main, "python -m benchmarks.speed")
