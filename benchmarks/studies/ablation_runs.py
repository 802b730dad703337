"""The trainings of the ablation: each once, judged by its last epoch, and all timed in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.results import Results
from benchmarks.run import plan
from benchmarks.run.plan import Planned, Shared
from benchmarks.run.session import timed
from benchmarks.studies.ablation_report import Cost, Report, Result, to_markdown
from benchmarks.studies.case import Case
from benchmarks.studies.designs import DESIGNS, Ablation, Design
from benchmarks.studies.untrained import bundle, random_checkpoint
from export.config import Export, Precision
from export.exporter import publish
from export.own.deploy import DeployGraph
from runtime import cli
from runtime.accuracy.metrics import BOUNDARY_TOLERANCE_PX, known
from runtime.errors import HedgeError
from train.__main__ import main as train
from train.checkpoint import Checkpoint
from train.config import DEFAULT_DECODER, DEFAULT_EDGES, EDGES, TrainConfig
from train.datasets import default_data, open_index
from train.device import half_precision
from train.evaluation.scoring import evaluate, evaluation_index, load_model
from train.loop.settings import to_builtins
from train.loop.task import require_same_settings
from train.run import completed
from train.segmentation import default_size

BACKEND = "openvino"
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")  # that are timed
# What the schedule tells in its own words, what is the table's, and what changes no weights.
_TOLD = {
    "backbone", "start", "weights", "epochs", "crop", "size", "batch", "lr", "class_balance",
    "jaccard", "ema", "amp", "variant", "hed", "decoder", "edge_weights", "seed", "name", "out",
    "data", "resumed", "force", "until", "log", "workers", "validate_every", "patience", "preset",
    "license",
}  # fmt: skip
ANY_LOSS = 100.0  # points: INT8 as it comes, without a search for layers to keep


def run(config: Ablation) -> None:
    """Train what is not trained yet, judge and time it, and write the report."""
    report = _known(config)
    for each in _runs(config):
        if any((r.design, r.seed) == (_design(each), each.seed) for r in report.results):
            continue
        if not config.report_only:
            _train(each)
        if _is_finished(each):
            result = _judged(each, config.runs / "bundles")
            report = _with(_known(config), result)  # others may have added theirs meanwhile
            report.save(config.out)
    report = _known(config)
    if not report.results:
        raise HedgeError(f"{config.runs}: no finished training; run without --report-only")
    if config.time:
        report = _timed(report, config)
    report.save(config.out)
    cli.say(to_markdown(report))
    cli.say(f"→ {config.out}/ablation.json, .md, .png")


def _known(config: Ablation) -> Report:
    """The report that --out holds, or an empty one; HedgeError if it is of other trainings."""
    run = config.train
    val = open_index(run.data or default_data(), "val")
    size = run.size or default_size(val)
    crop = run.crop or size
    start = Path(str(run.start or run.weights or "random weights")).name
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = half_precision(device) if run.amp else None
    schedule = (
        f"{run.backbone_name} from {start}, {run.epochs} epochs, crops of {crop[0]}×{crop[1]}, "
        f"batch {run.batch}, learning rate {run.lr:g}, class balance {run.class_balance:g}, "
        f"Jaccard {run.jaccard:g}, average {run.ema or 'of none'}, last epoch, "
        f"{str(dtype or 'float32').removeprefix('torch.')}{_others(run)}"
    )
    data = f"{val.root.name}, {len(val.items)} frames"
    empty = Report(schedule, data, size, BOUNDARY_TOLERANCE_PX)
    known = Report.load(config.out)
    if known is None:
        return empty
    for name in ("schedule", "data", "size"):
        old, new = getattr(known, name), getattr(empty, name)
        if old != new:
            raise HedgeError(f"{config.out}: holds results of another {name} ({old}, not {new})")
    return known


def _others(run: TrainConfig) -> str:
    """All other settings that are not the usual ones."""
    own, usual = to_builtins(run), to_builtins(TrainConfig())
    others = {key: own[key] for key in own if key not in _TOLD and own[key] != usual[key]}
    words = [f"{key.replace('_', ' ')} {value}" for key, value in others.items()]
    return "".join(f", {word}" for word in words)


def _runs(config: Ablation) -> Iterator[TrainConfig]:
    """One training a design and seed, seed by seed, so that an unfinished table is a fair one."""
    for seed in config.seeds:
        for name in config.designs:
            design = DESIGNS[name]
            own = design.hed and EDGES[design.hed].network
            yield replace(
                config.train,
                variant=design.variant,
                hed=design.hed,
                decoder=design.decoder,
                edge_weights=config.train.edge_weights if own else None,
                seed=seed,
                name=f"{name.replace(' ', '-')}-{seed}",
                out=config.runs,
            )


def _design(run: TrainConfig) -> str:
    own = Design(run.variant, run.hed, run.decoder or DEFAULT_DECODER)
    return next(name for name, design in DESIGNS.items() if design == own)


def _is_finished(run: TrainConfig) -> bool:
    """Whether it is there whole; HedgeError where what is there was trained in another way."""
    last = run.run / "last.pt"
    if not last.exists():
        return False
    saved = Checkpoint.load(last)
    now = completed(replace(run, resumed=run.run))
    before = replace(saved.config, backbone=saved.model.backbone, size=saved.size)
    require_same_settings(last, now, to_builtins(before), "give another folder with --runs")
    return saved.epoch >= run.epochs


def _train(run: TrainConfig) -> None:
    if not _is_finished(run):
        cli.err.rule(run.run.name)
        train(replace(run, resumed=run.run if (run.run / "last.pt").exists() else None))


def _judged(run: TrainConfig, bundles: Path) -> Result:
    """The last epoch of a finished training, in PyTorch and as an INT8 bundle."""
    path = run.run / "last.pt"
    checkpoint = Checkpoint.load(path)
    index = evaluation_index(checkpoint, run.data, "val")
    with cli.err.status(f"evaluating {run.run.name}"):
        found = evaluate(load_model(checkpoint), index, checkpoint.size)
    assert found.boundary is not None
    asked = Export(
        path, int8=True, data=run.data, name=run.run.name, out=bundles, force=True,
        frames=len(index.items), max_miou_drop=ANY_LOSS,
    )  # fmt: skip
    [published] = publish(asked)
    confusion = found.confusion
    return Result(
        _design(run), run.seed, confusion.miou(), known(found.boundary.mean()),
        confusion.iou_by_name(), published.manifest.measured.miou_by_backend[BACKEND],
    )  # fmt: skip


def _with(report: Report, result: Result) -> Report:
    """The report with one more result; results stand in the order of DESIGNS, then of seeds."""
    order = list(DESIGNS)
    results = sorted((*report.results, result), key=lambda r: (order.index(r.design), r.seed))
    return replace(report, results=results)


def _timed(report: Report, config: Ablation) -> Report:
    """The report with what its designs cost, all timed in turn."""
    names = list(dict.fromkeys(result.design for result in report.results))
    backbone, size = config.train.backbone_name, report.size
    cases = {
        name: Case(backbone, design.variant, size, design.hed or DEFAULT_EDGES, design.decoder)
        for name, design in DESIGNS.items()
        if name in names
    }
    folder = config.runs / "untrained"

    def planned(shared: Shared) -> Iterator[Planned]:
        for case in cases.values():
            for precision in PRECISIONS:
                models = plan.models([bundle(case, precision, folder, force=False)])
                yield plan.engine(models[0], BACKEND, shared)

    with tempfile.TemporaryDirectory() as scratch:
        results, interrupted = timed(planned, config.threads, config.rounds, Path(scratch))
    if interrupted:
        raise KeyboardInterrupt
    costs = []
    for name, case in cases.items():
        fp32_ms, int8_ms = (_p50(results, f"{case}-{p} {BACKEND}") for p in PRECISIONS)
        costs.append(Cost(name, *_size(random_checkpoint(case, folder)), fp32_ms, int8_ms))
    timing = f"{BACKEND}, {config.threads} threads, medians of {config.rounds} interleaved rounds"
    return replace(report, costs=costs, timing=timing, machine=results.machine)


def _p50(results: Results, name: str) -> float:
    cell = results.cell(name)
    if cell is None or cell.timing is None or cell.error:
        raise HedgeError(f"{name}: not timed: {cell.error if cell else 'not planned'}")
    return cell.timing.p50


def _size(checkpoint: Checkpoint) -> tuple[int, int]:
    """Parameters, and multiply-adds of one frame, of what is left at run time."""
    graph = DeployGraph(load_model(checkpoint), checkpoint.size, checkpoint.size)
    return sum(p.numel() for p in graph.parameters()), graph.multiply_adds()
