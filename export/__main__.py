"""``python -m export``: checkpoint → verified bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import cv2
import torch
import tyro
from rich.progress import track
from rich.table import Table

from export import bundle, verify
from export.deploy import DeployGraph
from export.to_onnx import to_onnx
from runtime import cli, files
from runtime.engine import installed_backends
from runtime.errors import GateError, HedgeError
from runtime.manifest import BUNDLES, Manifest
from runtime.segment import Segmenter
from train.checkpoint import Checkpoint, find_checkpoint
from train.evaluate import evaluation_index, load_model

DRAWN = 16  # frames, where there is no data set to verify on
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class Export:
    """Turn a trained model into bundles: one ONNX graph from camera frame to labels, verified.

    Each bundle is checked on labelled frames against PyTorch, in every engine installed here, and
    carries the mIoU measured on them. A bundle that does not agree is not published.

    Example: python -m export runs/dlse_hed-mobilenet_v2 --fp16 --frame-size 720 1280
    """

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder or checkpoint file. Default: the newest run."""
    fp32: bool = False
    """Write an FP32 bundle (the default when no precision is named)."""
    fp16: bool = False
    """Write an FP16 bundle: half the size; engines compute it in FP16 or bf16."""
    size: tuple[int, int] | None = None
    """Network input H W. Default: the size the model was validated at."""
    frame_size: tuple[int, int] | None = None
    """Camera frame H W; the graph then resizes it itself. Default: the same as size."""
    batch: int = 1
    """Frames an engine takes at once."""
    data: Path | None = None
    """Labelled data to verify on (its val split). Default: what the model was trained on; where
    that is not on this machine, drawn streets, which show parity but no mIoU."""
    frames: int = 128
    """Verify on at most this many frames, evenly spaced over the split."""
    name: str | None = None
    """Name of the bundles; the precision is appended. Default: the run's name."""
    out: Path = BUNDLES
    """Folder of the bundles."""
    force: bool = False
    """Replace bundles that exist."""

    def __post_init__(self) -> None:
        for name in ("size", "frame_size"):
            if (value := getattr(self, name)) is not None and min(value) < 32:
                raise HedgeError(f"--{name.replace('_', '-')} {value}: at least 32 32")
        if self.batch < 1 or self.frames < 1:
            raise HedgeError("--batch and --frames are at least 1")

    def precisions(self) -> list[str]:
        """What to write; FP32 when nothing was named."""
        return [name for name in DTYPES if getattr(self, name)] or ["fp32"]


def main(config: Export) -> None:
    """The command."""
    path = find_checkpoint(config.run)
    checkpoint = Checkpoint.load(path)
    name = config.name or path.parent.name
    for precision in config.precisions():
        target = config.out / f"{name}-{precision}"
        manifest = export(config, checkpoint, target, precision)
        cli.out.print(_table(manifest, target))


def export(config: Export, checkpoint: Checkpoint, target: Path, precision: str) -> Manifest:
    """Write one bundle, verify it, publish it at ``target``; GateError if it does not agree."""
    size = config.size or checkpoint.size
    frame_size = config.frame_size or size
    model = load_model(checkpoint)
    manifest = bundle.describe(checkpoint, target.name, precision, config.batch, frame_size)
    with bundle.staged(target, config.force) as folder:
        with _spinner(f"{target.name}: PyTorch → ONNX"):
            graph = DeployGraph(model, size, frame_size, DTYPES[precision])
            to_onnx(graph, config.batch, folder / bundle.MODEL)
        manifest = replace(manifest, files=bundle.hashes(folder))
        manifest.save(folder)
        reference = verify.TorchEngine(DeployGraph(model, size, frame_size), manifest)
        results = _verify(config, checkpoint, folder, target, reference)
        manifest = replace(manifest, measured=results)
        manifest.save(folder)
    return manifest


def _verify(
    config: Export,
    checkpoint: Checkpoint,
    folder: Path,
    target: Path,
    reference: verify.TorchEngine,
) -> dict[str, object]:
    frames = _frames(config, checkpoint, reference.manifest)
    precision = reference.manifest.precision
    with ExitStack() as stack:
        engines = [
            stack.enter_context(Segmenter(folder, backend)) for backend in installed_backends()
        ]
        bar = track(frames.frames, f"{target.name}: verifying", frames.count, console=cli.err)
        results = verify.compare(Segmenter.of(reference), engines, bar)
    try:
        verify.require_agreement(results, precision)
    except GateError as error:
        worst = min(verify.engines_only(results).values(), key=lambda result: result.worst_share)
        picture = target.parent / f"{target.name}-worst.png"
        with files.atomic_path(picture) as temporary:
            cv2.imwrite(str(temporary), worst.picture(checkpoint.classes))
        raise GateError(f"{error}; see {picture}; not published") from error
    return verify.measured(results, frames)


def _frames(config: Export, checkpoint: Checkpoint, manifest: Manifest) -> verify.FrameSet:
    known = checkpoint.config.data
    if config.data is None and known is not None and not known.exists():
        cli.warn(f"{known}: not on this machine; verifying on drawn streets (--data PATH)")
        return verify.generated(min(config.frames, DRAWN), manifest.input.shape[1:3])  # type: ignore[arg-type]
    return verify.labelled(evaluation_index(checkpoint, config.data, "val"), config.frames)


@contextmanager
def _spinner(text: str) -> Iterator[None]:
    with cli.err.status(text):
        yield


def _table(manifest: Manifest, target: Path) -> Table:
    measured = manifest.measured
    megabytes = (target / bundle.MODEL).stat().st_size / 1e6
    table = Table(title=f"{target}  ({megabytes:.1f} MB)", title_justify="left")
    for column in ("engine", "mIoU %", "labels equal to PyTorch %"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    table.add_row("PyTorch FP32", _percent(measured["miou_pytorch"]), "")
    for backend, miou in measured["miou_by_backend"].items():
        agreement = measured["agreement"][backend]
        table.add_row(f"{backend} {manifest.precision}", _percent(miou), f"{100 * agreement:.3f}")
    table.caption = f"{measured['images']} frames of {measured['data']} ({measured['split']})"
    return table


def _percent(miou: float | None) -> str:
    return "–" if miou is None else f"{100 * miou:.2f}"


if __name__ == "__main__":
    cli.run(Export, main, "python -m export")
