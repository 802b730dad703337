"""Small runs of the benchmark, made of random times, for the tests of page and gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.results import YARDSTICK, Accuracy, Arrival, Cell, Results, Stages, Timing, Worst

MILLISECONDS = {"fp32": 40.0, "fp16": 20.0, "int8": 10.0}
CELL = "dlse-int8 openvino"
CLASSES = ("road", "car", "fence")


def timing(median: float, seed: int, noise: float = 0.03, rounds: int = 80) -> Timing:
    """Times around ``median`` with a tail, as a machine that does other things gives them."""
    rng = np.random.default_rng(seed)
    samples = median * (1 + np.abs(rng.normal(0, noise, rounds)) + rng.normal(0, noise / 4, rounds))
    p50, p90, p95, p99 = np.quantile(samples, [0.5, 0.9, 0.95, 0.99]).tolist()
    half = 1.96 * 1.25 * noise * p50 / rounds**0.5
    return Timing(p50, p90, p95, p99, p50 - half, p50 + half, samples.tolist())


def accuracy(miou: float) -> Accuracy:
    """With every class 5 points around ``miou``, and one that never occurs."""
    iou = {name: miou + 0.05 * (1 - index) for index, name in enumerate(CLASSES)}
    return Accuracy(miou, miou - 0.1, iou | {"tunnel": None}, 20)


def bundle(variant: str, precision: str, backend: str, seed: int, **changes: Any) -> Cell:
    """A bundle's cell; ``changes`` replace its fields."""
    ms = MILLISECONDS[precision] * (1.5 if backend == "onnxruntime" else 1)
    whole = Cell(
        name=f"{variant}-{precision} {backend}",
        kind="bundle",
        bundle=f"{variant}-{precision}",
        model=f"{variant}-net",
        variant=variant,
        precision=precision,
        backend=backend,
        computes=precision,
        input=(1, 360, 480),
        timing=timing(ms, seed),
        fps_in_flight=1.2e3 / ms,
        in_flight=2,
        arrival=Arrival(30.0, ms, 1.1 * ms, 1.2 * ms, 0.25 if ms > 33 else 0.0),
        accuracy=accuracy(0.68 if precision != "int8" else 0.678),
        start_s=0.4,
        peak_mb=200.0,
        model_mb=15.0,
        engine_mb=12.0,
        multiply_adds=3_000_000_000,
        gflops=6.0 / ms * 1e3,
        ceiling=0.5,
    )
    return replace(whole, **changes)


def peer(name: str, variant: str, ms: float, seed: int, **changes: Any) -> Cell:
    """PyTorch on the weights of ``variant``."""
    whole = replace(
        bundle(variant, "fp32", "openvino", seed),
        name=f"{variant} {name}",
        kind="peer",
        bundle=None,
        backend="pytorch",
        way=name,
        timing=timing(ms, seed),
        accuracy=accuracy(0.68),
    )
    return replace(whole, **changes)


def results(
    variants: Sequence[str] = ("vanilla", "dlse"),
    backends: Sequence[str] = ("openvino", "onnxruntime"),
    seed: int = 0,
    peers: bool = True,
) -> Results:
    """Every variant in three precisions in every backend, beside PyTorch."""
    cells = [
        bundle(variant, precision, backend, seed + 100 * number + 7 * index)
        for number, variant in enumerate(variants)
        for index, (precision, backend) in enumerate(
            (precision, backend) for precision in MILLISECONDS for backend in backends
        )
    ]
    for number, variant in enumerate(variants if peers else ()):
        for name, ms in ((YARDSTICK, 80.0), ("pytorch fp32", 90.0)):
            cells.append(peer(name, variant, ms, seed + 1000 + 10 * number + int(ms)))
    machine = {"cpu": "a CPU", "cores": 2, "gpus": [], "versions": {"openvino": "2026.1"}}
    return Results(machine, cells, data="blocks (val)", threads=2, seconds=60.0)


def with_bare(run: Results) -> Results:
    """``run`` with the bare library below ``CELL``, one percent faster in every round."""
    cell = run.cell(CELL)
    assert cell and cell.timing
    faster = replace(
        cell,
        name=f"{CELL} (loop + tail)",
        kind="bare",
        way="loop + tail",
        accuracy=None,
        arrival=None,
        timing=_scaled(cell.timing, 0.99),
    )
    return replace(run, cells=[*run.cells, faster])


def changed(run: Results, changes: Mapping[str, Mapping[str, Any]]) -> Results:
    """``run`` with fields of the cells of these names replaced."""
    cells = [replace(cell, **changes.get(cell.name, {})) for cell in run.cells]
    assert changes.keys() <= {cell.name for cell in run.cells}
    return replace(run, cells=cells)


def slowed(run: Results, by: float, *names: str) -> Results:
    """``run`` with the times of the cells whose name holds one of ``names`` ``by`` times as long;
    without names, of all: a slower machine."""
    cells = [
        replace(cell, timing=_scaled(cell.timing, by))
        if cell.timing and (not names or any(name in cell.name for name in names))
        else cell
        for cell in run.cells
    ]
    return replace(run, cells=cells)


def _scaled(whole: Timing, by: float) -> Timing:
    numbers = (whole.p50, whole.p90, whole.p95, whole.p99, whole.low, whole.high)
    return Timing(*(by * n for n in numbers), [by * n for n in whole.samples])


STAGES = Stages(CELL, "drive.mp4", 2.0, 1.0, 10.0, 1.5, 4.0, 60.0, 95.0)
WORST = Worst(CELL, "frame 7", 0.31, "worst/seven.png")
