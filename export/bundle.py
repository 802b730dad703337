"""What a bundle says of itself: its manifest, and a hash of every file."""

from __future__ import annotations

from pathlib import Path

from export.network import Deployed, Facts
from export.own.to_onnx import INPUT, LOGITS, OUTPUT
from runtime import files
from runtime.bundle.manifest import ENGINES, FILE_NAME, Manifest, Precision, TensorSpec
from runtime.machine import version

_TOOLS = ("hedge-seg", "torch", "onnx", "onnxscript", "onnxruntime", "openvino")


def describe(
    facts: Facts, name: str, precision: Precision, batch: int, graph: Deployed
) -> Manifest:
    """The manifest of a graph about to be written: no file hashes and no measurements yet."""
    frame_size, score_size, classes = graph.frame_size, graph.score_size, facts.classes
    scores = (batch, len(classes), *score_size) if score_size else ()
    return Manifest(
        name=name,
        variant=facts.variant,
        backbone=facts.backbone,
        precision=precision,
        input=TensorSpec(INPUT, (batch, *frame_size, 3), "uint8", "NHWC", "BGR"),
        output=TensorSpec(OUTPUT, (batch, *frame_size), "uint8", "NHW"),
        logits=TensorSpec(LOGITS, scores, "float32", "NCHW") if scores else None,
        classes=classes,
        files={},
        built_with={name: found for name in _TOOLS if (found := version(name))},
        license=facts.license,
    )


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
