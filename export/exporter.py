"""Checkpoint → verified bundle: what is written, checked and published, in this order."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import msgspec
from torch import nn

from export import bundle, golden, verify
from export.config import PRECISIONS, Export, Precision
from export.fp16 import to_fp16
from export.given import given
from export.int8 import calibration, ranges, search, search_log
from export.int8.calibration import SCALES, Images, Scales
from export.int8.quantizer import Quantizer, best_method
from export.int8.ranges import Method
from export.network import Network
from export.staging import scratch, staged
from export.task import Task
from export.verify import Budget
from runtime import cli, files
from runtime.accuracy.metrics import ConfusionMatrix
from runtime.backends.auto import medians, pick
from runtime.backends.base import Engine
from runtime.backends.registry import installed_backends, load_engine
from runtime.bundle.cached import nothing_kept
from runtime.bundle.manifest import FILE_NAME, MODEL, Manifest
from runtime.bundle.measured import Fastest, Int8, Measured
from runtime.errors import GateError, HedgeError
from runtime.fleet.__main__ import LIBRARIES
from runtime.machine import cpu_name
from runtime.segment import Segmenter

INT8_LOSS = Budget(miou=3.0, worst=None)  # plain INT8 that loses more is refused
UNASKED = Budget(miou=0.5, worst=2.0)  # what INT8 is held to where no budget is named
# The same for FP16 in an engine that computes bf16 for it, where there is no layer to search for.
BF16_LOSS = Budget(miou=0.5, worst=None)
_UNLABELLED = "--max-miou-drop and --max-class-drop need labelled frames: --data PATH"


@dataclass(frozen=True)
class Bundle:
    """A bundle that was published: its folder, and what its manifest says."""

    path: Path
    manifest: Manifest


def publish(
    source: Export | Path | str | nn.Module,
    config: Export | None = None,
    on_bundle: Callable[[Bundle], None] = lambda bundle: None,
) -> list[Bundle]:
    """Write, verify and publish every bundle that was asked for.

    source: all that is asked for; or a run, a checkpoint, an ONNX file, or a module of any training
    from float32 (N, 3, H, W) images to logits of any stride or to labels, with the rest in
    ``config``, whose ``size`` a module needs. on_bundle: called with each as soon as it is there.
    Raises HedgeError, GateError where one does not agree with the network as it was given or loses
    too much, TypeError for another source.
    """
    published = []
    for made in _published(*given(source, config)):
        published.append(made)
        on_bundle(made)
    return published


def _published(config: Export, network: Network) -> Iterator[Bundle]:
    name = config.name or network.facts.name
    if config.best:
        target = config.out / f"{name}-best"
        yield Bundle(target, _publish_best(config, network, target))
        return
    with scratch() as work:
        for precision in config.precisions():
            target = config.out / f"{name}-{precision}"
            yield Bundle(target, export(config, network, target, precision, work))


@nothing_kept()
def _publish_best(config: Export, network: Network, target: Path) -> Manifest:
    """Write all precisions, time them in every engine in turn, and publish the fastest."""
    with staged(target, config.force, FILE_NAME) as folder, ExitStack() as stack:
        work = stack.enter_context(scratch())
        engines: dict[str, Engine] = {}
        for precision in PRECISIONS:
            try:
                trial, kept = work / precision / target.name, f"{target.name}-{precision}"
                export(config, network, trial, precision, work, target.with_name(kept))
            except GateError as error:
                cli.warn(f"{precision} is out: {error}")
                continue
            for backend in installed_backends():
                engine = load_engine(work / precision / target.name, backend)
                engines[f"{backend} {precision}"] = stack.enter_context(engine)
        if not engines:
            raise GateError(f"{target.name}: no precision passed its gate; nothing is published")
        ms = medians(engines)
        backend, winner = pick(ms).split()
        shutil.copytree(work / winner / target.name, folder, dirs_exist_ok=True)
        manifest = Manifest.load(folder)
        fastest = Fastest(backend=backend, precision=winner, ms=ms, cpu=cpu_name())
        measured = msgspec.structs.replace(manifest.measured, fastest=fastest)
        manifest = replace(manifest, measured=measured)
        manifest.save(folder)
    return manifest


@nothing_kept()
def export(
    config: Export,
    network: Network,
    target: Path,
    precision: Precision,
    work: Path,
    beside: Path | None = None,
) -> Manifest:
    """Write one bundle, verify it, publish it at ``target``; GateError if it does not agree.

    work: a scratch folder for this network and these settings alone; beside: what outlives a
    failure lies beside this and is named after it, ``target`` unless said.
    """
    size = config.size or network.facts.size
    frame_size = config.frame_size or size
    task = Task(config, network, target, size, frame_size, work, beside or target)
    task.index("val")  # what is wrong with it is told before the slow part
    with staged(target, config.force, FILE_NAME) as folder:
        manifest = _WRITERS[precision](task, folder)
        manifest = _verified(task, folder, manifest)
        manifest.save(folder)
    return manifest


def _write_fp32(task: Task, folder: Path) -> Manifest:
    shutil.copy(task.graph(), folder / MODEL)
    return _sealed(task.manifest("fp32"), folder)


def _write_fp16(task: Task, folder: Path) -> Manifest:
    to_fp16(task.graph(), folder / MODEL)
    return _sealed(task.manifest("fp16"), folder)


def _write_int8(task: Task, folder: Path) -> Manifest:
    model = task.network.fingerprint(task.size, task.frame_size)
    # What is wrong is told before the slow part.
    if task.budget() is not None and task.index("val") is None:
        raise HedgeError(_UNLABELLED)
    source = _source(task, model)
    fp32, fp16 = task.graph(), task.work / "fp16.onnx"
    to_fp16(fp32, fp16)
    quantizer = Quantizer(fp32, fp16, model, {}, task.manifest("int8"))
    fixed = _fixed(task, quantizer)
    scales = source if isinstance(source, Scales) else _observed(task, quantizer, source)
    quantizer = quantizer.using(scales.ranges)
    scales.save(folder / SCALES)
    int8 = _searched(task, quantizer, fixed, folder)
    manifest = quantizer.write(folder, int8.kept)
    return replace(manifest, calibration=scales.passport, measured=Measured(int8=int8))


def _fixed(task: Task, quantizer: Quantizer) -> tuple[str, ...]:
    """The layers that stay in floating point whatever a search finds."""
    layers = quantizer.layers()
    if unknown := set(task.config.keep) - set(layers):
        raise HedgeError(
            f"--keep {min(unknown)}: no such layer; the graph has {', '.join(layers[:3])}, …"
        )
    return tuple(name for name in layers if name in task.config.keep)


_WRITERS = {"fp32": _write_fp32, "fp16": _write_fp16, "int8": _write_int8}


def _source(task: Task, model: str) -> Scales | Images:
    """What ranges come from, a table of them or whole images; never from the evaluation split."""
    config = task.config
    source = Scales.load(config.scales, model) if config.scales else task.images()
    if (evaluation := task.index("val")) is not None:
        calibration.refuse_overlap(source.passport["images"], evaluation)
    if config.fleet:
        cli.require(LIBRARIES, "fleet")
    elif isinstance(source, Images):
        source.check()
    return source


def _observed(task: Task, quantizer: Quantizer, images: Images) -> Scales:
    """The table of ranges that the tensors take on over the images."""
    config, graph = task.config, task.graph(batch=1)
    if config.fleet:
        # The libraries of a fleet are an extra.
        from export.int8.parts import PartWorker, job_of, observe_parts
        from runtime.fleet.parts import on_ray

        job = job_of(graph, images, task.frame_size, config.fleet, config.cores)
        pool = on_ray(job, PartWorker, config.cores, config.address)
        histograms = observe_parts(job, pool)
    else:
        frames = images.frames(task.frame_size)
        bar = cli.track(frames, f"{task.target.name}: calibrating", len(images.paths))
        histograms = ranges.observe(graph, bar)
    shares: dict[Method, float] = {}
    method = config.calibration_method
    if method == "auto":
        with cli.err.status(f"{task.target.name}: choosing the calibration method"):
            method, shares = best_method(
                quantizer, histograms, images, installed_backends()[0], task.work
            )
    table = {name: histogram.range(method) for name, histogram in histograms.items()}
    return Scales(quantizer.model, table, images.passport | {"method": method, "agreement": shares})


def _searched(task: Task, quantizer: Quantizer, fixed: tuple[str, ...], folder: Path) -> Int8:
    """The layers to keep in floating point, and what the search for them measured.

    Without a budget on the command line nothing is searched where plain INT8 holds the usual one,
    or where it loses so much that the gate had better refuse it.
    """
    unsearched = Int8(layers=len(quantizer.layers()), kept=fixed)
    asked = task.budget() is not None
    allowed = task.budget() or UNASKED
    reference = _trained(task)
    if reference is None:
        if asked:
            raise HedgeError(_UNLABELLED)
        return unsearched
    probe = task.work / "probe"
    quantizer.write(probe, fixed)
    with Segmenter(probe, task.config.backend) as segmenter:  # "auto": the fastest in plain INT8
        backend = segmenter.backend
    memory = task.beside.with_name(f".{task.beside.name}.search")
    hunt = search.Search(quantizer, backend, task.frames, reference, allowed, fixed, memory)
    plain = hunt.plain()
    if not asked and allowed.holds(plain.drop):
        hunt.settle(plain)
        hunt.report(folder)
        return unsearched
    if not asked and not INT8_LOSS.holds(plain.drop):
        hunt.forget()
        return unsearched
    kept = hunt.run().kept
    hunt.report(folder)
    return Int8(
        layers=unsearched.layers,
        kept=tuple(name for name in quantizer.layers() if name in kept),
        budget=asdict(allowed),
        backend=backend,
        search=search_log.TABLE,
    )


def _trained(task: Task) -> ConfusionMatrix | None:
    """What the network as it was given answers on the frames, from which drops are counted.

    None where they have no labels.
    """
    frames = task.frames()
    bar = cli.track(frames.frames, f"{task.target.name}: {task.network.facts.origin}", frames.count)
    confusion = verify.compare(task.reference(), [], bar)[verify.PYTORCH].confusion
    return confusion if confusion.counts.any() else None


def _sealed(manifest: Manifest, folder: Path) -> Manifest:
    manifest = replace(manifest, files=bundle.hashes(folder))
    manifest.save(folder)
    return manifest


def _verified(task: Task, folder: Path, manifest: Manifest) -> Manifest:
    """Run every engine and PyTorch over the same frames; GateError if one of them fails.

    The manifest with what was measured, and with the golden frames for engines elsewhere.
    """
    frames, gathered = task.frames(), golden.Gathered(manifest)
    with ExitStack() as stack:
        engines = [
            stack.enter_context(Segmenter(folder, backend)) for backend in installed_backends()
        ]
        title = f"{task.target.name}: verifying"
        bar = cli.track(gathered.of(frames), title, frames.count)
        results = verify.compare(task.reference(), engines, bar)
        _require(task, manifest, results)
        drawn = task.config.golden == "drawn"
        pictures = golden.drawn(manifest) if drawn else gathered.pictures
        data = "drawn streets" if drawn else f"{frames.data} ({frames.split})"
        manifest = golden.add(task, folder, manifest, engines, pictures, data)
        asked = engines if manifest.precision == "int8" else []
        arithmetic = {engine.backend: engine.multiply_adds() for engine in asked}
    measured = msgspec.structs.replace(
        verify.measured(results, frames, task.network.facts.origin),
        multiply_adds=task.network.multiply_adds(task.size, task.frame_size),
        arithmetic=arithmetic,
        int8=manifest.measured.int8,
    )
    return replace(manifest, measured=measured)


def _require(task: Task, manifest: Manifest, results: dict[str, verify.Comparison]) -> None:
    """GateError, with a picture of the worst frame beside the bundle, if an engine fails."""
    try:
        origin = task.network.facts.origin
        verify.require(results, manifest.precision, _allowed(task, manifest), origin)
    except GateError as error:
        worst = min(verify.engines_only(results).values(), key=lambda result: result.worst_share)
        picture = task.beside.with_name(f"{task.beside.name}-worst.png")
        with files.atomic_path(picture) as temporary:
            cv2.imwrite(str(temporary), worst.picture(task.network.facts.classes))
        raise GateError(f"{error}; see {picture}; not published") from error


def _allowed(task: Task, manifest: Manifest) -> Budget:
    """What an engine may lose where it computes coarsely."""
    if manifest.precision != "int8":
        return task.budget() or BF16_LOSS
    int8 = manifest.measured.int8
    return (task.budget() or UNASKED) if int8 and int8.search else INT8_LOSS
