"""``python -m benchmarks.ablation``: what Squeeze-Excitation and edges bring, and their price."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import msgspec
import torch
from matplotlib.figure import Figure
from rich.progress import track
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.latency import interleaved
from benchmarks.report import machine
from export.config import Export
from export.exporter import publish
from runtime import cli, files
from runtime.engine import Engine, load_engine
from runtime.errors import HedgeError
from runtime.manifest import FILE_NAME, Manifest
from runtime.metrics import BOUNDARY_TOLERANCE_PX, Latency
from train.__main__ import main as train
from train.checkpoint import Checkpoint
from train.config import EdgeName, TrainConfig, VariantName
from train.evaluate import evaluate, evaluation_index, load_model

BACKEND = "openvino"
FRAMES = 8  # of the validation split, to time with


@dataclass(frozen=True)
class Design:
    """A row of the table: a variant, and where its edges come from."""

    variant: VariantName
    hed: EdgeName | None = None


DESIGNS: dict[str, Design] = {
    "vanilla": Design("vanilla"),
    "dlse": Design("dlse"),
    "dlse_sf": Design("dlse_sf"),
    "dlse_hed lite": Design("dlse_hed", "lite"),
    "dlse_hed blank": Design("dlse_hed", "blank"),
    "dlse_hed shared": Design("dlse_hed", "shared"),
    "dlse_hed supervised": Design("dlse_hed", "supervised"),
}


@dataclass(frozen=True)
class Ablation:
    """Train every design with the same budget, order and seeds; tell what each brings and costs.

    One training after the other: stop it with Ctrl-C whenever you like, the same command goes on.
    Trainings that are finished are never repeated. The last epoch's weights are judged, not the
    best epoch's, which would be chosen on the frames that it is judged on.

    Example: python -m benchmarks.ablation --train.data camvid --train.crop 240 320 \
--train.epochs 20 --train.weights mobilenet_v2_imagenet.pth
    """

    train: TrainConfig = field(default_factory=TrainConfig)
    """Settings that all trainings share; variant, hed, seed, name and out are the table's."""
    designs: tuple[str, ...] = tuple(DESIGNS)
    """Rows of the table."""
    seeds: tuple[int, ...] = (0, 1)
    """Each design is trained once with each."""
    rounds: int = 30
    """How often each engine is timed."""
    threads: int = 2
    """CPU threads of each engine."""
    runs: Path = Path("runs/ablation")
    """Folder of the trainings and bundles."""
    out: Path = Path("benchmarks/results")
    """Folder of ablation.json, ablation.md and ablation.png."""
    report_only: bool = False
    """Train nothing: report on the trainings that are finished."""


@dataclass(frozen=True)
class Result:
    """One training, judged on the validation split; all in 0..1."""

    design: str
    seed: int
    miou: float
    boundary_f: float
    iou: dict[str, float | None]


@dataclass(frozen=True)
class Cost:
    """A design at work: parameters; multiply-adds a frame; median milliseconds by precision;
    mIoU of the INT8 bundle of the first seed, in 0..1."""

    design: str
    parameters: int
    multiply_adds: int
    fp32_ms: float
    int8_ms: float
    int8_miou: float | None


@dataclass(frozen=True)
class Row:
    """A design over its seeds, in points: mean and half the spread of mIoU and boundary F; gained
    against the first design, and that for each millisecond its INT8 frame takes longer (None where
    it takes no longer)."""

    design: str
    seeds: int
    miou: float
    miou_spread: float
    boundary_f: float
    gained: float
    gained_a_ms: float | None


@dataclass(frozen=True)
class Report:
    """All that ``ablation.json`` holds."""

    machine: dict[str, Any]
    schedule: str
    data: str
    size: tuple[int, int]
    boundary_tolerance_px: int
    rounds: int
    threads: int
    results: Sequence[Result]
    costs: Sequence[Cost]

    def rows(self) -> list[Row]:
        """The table, in the order of DESIGNS."""
        by_design = {cost.design: cost for cost in self.costs}
        found: list[Row] = []
        for design, cost in by_design.items():
            mine = [r for r in self.results if r.design == design]
            scores = [100 * r.miou for r in mine]
            gained = mean(scores) - (found[0].miou if found else mean(scores))
            longer = cost.int8_ms - next(iter(by_design.values())).int8_ms
            found.append(
                Row(
                    design,
                    len(mine),
                    mean(scores),
                    (max(scores) - min(scores)) / 2,
                    100 * mean(r.boundary_f for r in mine),
                    gained,
                    gained / longer if longer > 0 else None,
                )
            )
        return found


def main(config: Ablation) -> None:
    """The command."""
    for design in config.designs:
        if design not in DESIGNS:
            raise HedgeError(f"--designs {design}: not one of {', '.join(DESIGNS)}")
    if not config.report_only:
        for run in _runs(config):
            _train(run)
    finished = [run for run in _runs(config) if _is_finished(run)]
    if not finished:
        raise HedgeError(f"{config.runs}: no finished training; run without --report-only")
    results = [_judged(run) for run in finished]
    report = _report(config, results, _costs(config, finished))
    files.write_bytes(
        config.out / "ablation.json", msgspec.json.format(msgspec.json.encode(report)) + b"\n"
    )
    text = to_markdown(report)
    files.write_bytes(config.out / "ablation.md", text.encode())
    with files.atomic_path(config.out / "ablation.png") as temporary:
        draw(report, temporary)
    cli.out.print(text, markup=False)
    cli.out.print(f"→ {config.out}/ablation.json, .md, .png", markup=False)


def _runs(config: Ablation) -> Iterator[TrainConfig]:
    """One training a design and seed, seed by seed, so that an unfinished table is a fair one."""
    for seed in config.seeds:
        for name in config.designs:
            design = DESIGNS[name]
            yield replace(
                config.train,
                variant=design.variant,
                hed=design.hed,
                seed=seed,
                name=f"{name.replace(' ', '-')}-{seed}",
                out=config.runs,
            )


def _is_finished(run: TrainConfig) -> bool:
    last = run.run / "last.pt"
    return last.exists() and Checkpoint.load(last).epoch >= run.epochs


def _train(run: TrainConfig) -> None:
    if not _is_finished(run):
        cli.err.rule(run.run.name)
        train(replace(run, resume=(run.run / "last.pt").exists()))


def _judged(run: TrainConfig) -> Result:
    """The evaluation of a finished training, kept beside it."""
    known = run.run / "result.json"
    if known.exists():
        return msgspec.json.decode(known.read_bytes(), type=Result)
    checkpoint = Checkpoint.load(run.run / "last.pt")
    index = evaluation_index(checkpoint, run.data, "val")
    with cli.err.status(f"evaluating {run.run.name}"):
        found = evaluate(load_model(checkpoint), index, checkpoint.size)
    assert found.boundary is not None
    confusion = found.confusion
    design = next(n for n, d in DESIGNS.items() if (d.variant, d.hed) == (run.variant, run.hed))
    iou, f = confusion.iou_by_name(), found.boundary.mean()
    result = Result(design, run.seed, confusion.miou(), f, iou)
    files.write_bytes(known, msgspec.json.format(msgspec.json.encode(result)))
    return result


def _costs(config: Ablation, finished: Sequence[TrainConfig]) -> list[Cost]:
    """What each design costs: bundles of its first finished seed, timed in turn with the others."""
    first = {_judged(run).design: run for run in reversed(finished)}
    order = [design for design in config.designs if design in first]
    bundles = {d: _bundles(first[d], config.runs / "bundles") for d in order}
    with ExitStack() as stack:
        engines: dict[str, Engine] = {
            f"{design} {precision}": stack.enter_context(load_engine(path, BACKEND, config.threads))
            for design, paths in bundles.items()
            for precision, path in paths.items()
        }
        checkpoint = Checkpoint.load(first[order[0]].run / "last.pt")
        index = evaluation_index(checkpoint, first[order[0]].data, "val")
        frames = [cv2.cvtColor(index.read(i)[0], cv2.COLOR_RGB2BGR) for i in index.items[:FRAMES]]
        rounds = track(range(config.rounds), "timing", console=cli.err)
        times = interleaved(engines, frames, rounds)
    return [_cost(d, first[d], bundles[d]["int8"], times) for d in order]


def _cost(design: str, run: TrainConfig, int8: Path, times: Mapping[str, Latency]) -> Cost:
    fp32_ms, int8_ms = (
        times[f"{design} {precision}"].percentiles()["p50"] or 0.0 for precision in ("fp32", "int8")
    )
    parameters, work = _size(Checkpoint.load(run.run / "last.pt"))
    miou = Manifest.load(int8).measured["miou_by_backend"][BACKEND]
    return Cost(design, parameters, work, fp32_ms, int8_ms, miou)


def _bundles(run: TrainConfig, out: Path) -> dict[str, Path]:
    """The FP32 and INT8 bundles of a training's last epoch; written where they are missing."""
    paths = {precision: out / f"{run.run.name}-{precision}" for precision in ("fp32", "int8")}
    if not all((path / FILE_NAME).is_file() for path in paths.values()):
        asked = Export(
            run.run / "last.pt", fp32=True, int8=True, data=run.data,
            name=run.run.name, out=out, force=True,
        )  # fmt: skip
        list(publish(asked))
    return paths


def _size(checkpoint: Checkpoint) -> tuple[int, int]:
    """Parameters, and multiply-adds of one frame, of what is left at run time."""
    model = load_model(checkpoint)
    if model.sides is not None and not model.config.edges.fused:
        model.sides = None  # it only taught
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, *checkpoint.size))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2


def _report(config: Ablation, results: Sequence[Result], costs: Sequence[Cost]) -> Report:
    run = next(run for run in _runs(config) if _is_finished(run))
    checkpoint = Checkpoint.load(run.run / "last.pt")
    crop = run.crop or checkpoint.size
    schedule = (
        f"{checkpoint.model.backbone} from "
        f"{Path(str(run.start or run.weights or 'random weights')).name}, {run.epochs} epochs, "
        f"crops of {crop[0]}×{crop[1]}, batch {run.batch}, last epoch"
    )
    index = evaluation_index(checkpoint, run.data, "val")
    return Report(
        machine(), schedule, f"{index.root.name}, {len(index.items)} frames", checkpoint.size,
        BOUNDARY_TOLERANCE_PX, config.rounds, config.threads, results, costs,
    )  # fmt: skip


_HEAD = (
    "design", "seeds", "mIoU %", "± ", "boundary F %", "M parameters", "G multiply-adds",
    "FP32 ms", "INT8 ms", "INT8 mIoU %", "points gained", "points a ms",
)  # fmt: skip


def to_markdown(report: Report) -> str:
    """Two tables, the designs and their classes, with what they were measured on below."""
    costs = {cost.design: cost for cost in report.costs}
    lines = [_HEAD, ("---",) * len(_HEAD)]
    lines += [_cells(row, costs[row.design]) for row in report.rows()]
    names = list(report.results[0].iou)
    lines += [(), ("design", *names), ("---",) * (len(names) + 1)]
    for row in report.rows():
        mine = [r.iou for r in report.results if r.design == row.design]
        values = [[v for iou in mine if (v := iou[n]) is not None] for n in names]
        means = (f"{100 * mean(v):.1f}" if v else "–" for v in values)
        lines.append((row.design, *means))
    text = "".join("| " + " | ".join(line) + " |\n" if line else "\n" for line in lines)
    height, width = report.size
    return (
        f"{text}\n{report.data} at {height}×{width}; {report.schedule}; ±: half the spread over "
        f"seeds; boundary tolerance {report.boundary_tolerance_px} px; {BACKEND}, "
        f"{report.threads} threads, medians of {report.rounds} interleaved rounds on "
        f"{report.machine['cpu']}; points against {report.rows()[0].design}, a ms of INT8\n"
    )


def _cells(row: Row, cost: Cost) -> tuple[str, ...]:
    return (
        row.design,
        str(row.seeds),
        f"{row.miou:.2f}",
        f"{row.miou_spread:.2f}",
        f"{row.boundary_f:.2f}",
        f"{cost.parameters / 1e6:.2f}",
        f"{cost.multiply_adds / 1e9:.2f}",
        f"{cost.fp32_ms:.1f}",
        f"{cost.int8_ms:.1f}",
        "–" if cost.int8_miou is None else f"{100 * cost.int8_miou:.2f}",
        f"{row.gained:+.2f}",
        "–" if row.gained_a_ms is None else f"{row.gained_a_ms:+.2f}",
    )


def draw(report: Report, path: Path) -> None:
    """mIoU against the milliseconds of an INT8 frame; a bar from the worst seed to the best."""
    costs = {cost.design: cost for cost in report.costs}
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for row in report.rows():
        ms = costs[row.design].int8_ms
        axes.errorbar(ms, row.miou, yerr=row.miou_spread, fmt="o", capsize=4)
        axes.annotate(row.design, (ms, row.miou), xytext=(8, 6), textcoords="offset points")
    axes.set(xlabel="ms a frame, INT8", ylabel="mIoU %", title=report.data)
    axes.margins(x=0.2, y=0.2)
    axes.grid(alpha=0.3)
    figure.savefig(path, format="png", dpi=120)


if __name__ == "__main__":
    cli.run(Ablation, main, "python -m benchmarks.ablation")
