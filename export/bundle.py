"""A bundle is built beside its place and moved there when it has passed: never half a bundle."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from export.deploy import DeployGraph
from export.to_onnx import INPUT, LOGITS, OUTPUT
from runtime import files
from runtime.errors import OutputError
from runtime.manifest import ENGINES, FILE_NAME, Manifest, TensorSpec
from train.checkpoint import Checkpoint

_TOOLS = ("hedge-seg", "torch", "onnx", "onnxscript", "onnxruntime", "openvino")


def describe(
    checkpoint: Checkpoint, name: str, precision: str, batch: int, graph: DeployGraph
) -> Manifest:
    """The manifest of a graph about to be written: no file hashes and no measurements yet."""
    frame_size, classes = graph.frame_size, checkpoint.classes
    return Manifest(
        name=name,
        variant=checkpoint.config.variant,
        backbone=checkpoint.model.backbone,
        precision=precision,
        input=TensorSpec(INPUT, (batch, *frame_size, 3), "uint8", "NHWC", "BGR"),
        output=TensorSpec(OUTPUT, (batch, *frame_size), "uint8", "NHW"),
        logits=TensorSpec(LOGITS, (batch, len(classes), *graph.score_size), "float32", "NCHW"),
        classes=classes,
        files={},
        built_with=_versions(),
    )


@contextmanager
def staged(target: Path, force: bool) -> Iterator[Path]:
    """Yield an empty folder beside ``target``; at the end it takes the target's place.

    On an error it disappears, and what was at ``target`` stays. OutputError if ``target`` exists
    without ``force``, or is something else than a bundle.
    """
    if target.exists() and not (force and (target / FILE_NAME).is_file()):
        fix = "--force replaces it" if (target / FILE_NAME).is_file() else "choose another --name"
        raise OutputError(f"{target}: exists; {fix}")
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    folder.chmod(0o755)
    try:
        yield folder
        if target.exists():
            shutil.rmtree(target)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file of a bundle, by relative path.

    Left out are the manifest, and the engines that each machine builds for itself.
    """
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        relative.as_posix(): files.sha256(path)
        for relative, path in sorted(found.items())
        if relative.parts[0] not in (FILE_NAME, ENGINES)
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
