"""The manifest of a bundle: what the model is, what it answers with, and a hash of every file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from runtime import files
from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError

SCHEMA = 1
FILE_NAME = "manifest.json"
MODEL = "model.onnx"
ENGINES = "engines"  # what a machine makes of the bundle for itself; under no hash of ours
BUNDLES = Path("bundles")


@dataclass(frozen=True)
class TensorSpec:
    """One tensor at the graph's border.

    shape: in the order of ``layout`` ("NHWC", "NHW"); color_order: "BGR" as decoded, or None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    color_order: str | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime knows about a model; it takes no model flags beside it.

    precision: "fp32" | "fp16" | "int8"; files: sha256 of each file in the bundle, by relative
    path; logits: the scores that the graph's own upsampling and argmax make labels of, for engines
    whose host does that faster; graphs: the ONNX file for a backend that wants a form of its own;
    measured: mIoU, parity and latency with the data they were measured on; calibration: the images
    INT8 ranges came from, else None; built_with: library versions; license: terms of the weights.
    """

    name: str
    variant: str
    backbone: str
    precision: str
    input: TensorSpec
    output: TensorSpec
    classes: ClassSet
    files: dict[str, str]
    logits: TensorSpec | None = None
    graphs: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    built_with: dict[str, str] = field(default_factory=dict)
    license: str | None = None
    schema: int = SCHEMA
    digest: str = ""  # sha256 over all other fields, so that a flipped bit here is found too

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema {self.schema}, this version reads {SCHEMA}")
        if self.input.layout != "NHWC" or self.output.layout != "NHW":
            raise ValueError("the graph must take NHWC frames and answer NHW labels")
        if unsealed := set(self.graphs.values()) - self.files.keys():
            raise ValueError(f"graph without a sha256: {min(unsealed)}")

    def graph(self, backend: str) -> str:
        """The bundle's ONNX file for ``backend``."""
        return self.graphs.get(backend, MODEL)

    def save(self, bundle: Path) -> None:
        """Write ``bundle/manifest.json`` atomically."""
        sealed = replace(self, digest=self._digest())._content()
        files.write_bytes(bundle / FILE_NAME, msgspec.json.format(msgspec.json.encode(sealed)))

    @classmethod
    def load(cls, bundle: Path) -> Manifest:
        """Read and check a bundle: the manifest's own digest, then the sha256 of every file.

        Raises HedgeError before any model parser has seen a byte: parsers accept damaged models
        and answer differently.
        """
        path = bundle / FILE_NAME
        if not path.is_file():
            raise HedgeError(f"{bundle}: not a bundle (no {FILE_NAME}); make one: python -m export")
        try:
            data = path.read_bytes()
            manifest = msgspec.json.decode(data, type=cls)
            # The digest cannot see a damaged key, which would be left out for the default's sake.
            same = msgspec.json.decode(data) == manifest._content()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            raise HedgeError(f"{path}: unreadable manifest: {error}; export again") from error
        if not same or manifest.digest != manifest._digest():
            raise HedgeError(f"{path}: changed after it was written; export again or copy it anew")
        for name, expected in manifest.files.items():
            manifest._check_file(bundle, name, expected)
        return manifest

    def _check_file(self, bundle: Path, name: str, expected: str) -> None:
        path = bundle / name
        if bundle.resolve() not in path.resolve().parents:
            raise HedgeError(f"{bundle / FILE_NAME}: names a file outside the bundle: {name}")
        if not path.is_file():
            raise HedgeError(f"{path}: missing from the bundle; copy the whole folder again")
        if files.sha256(path) != expected:
            raise HedgeError(f"{path}: sha256 differs from the manifest (damaged or replaced file)")

    def _digest(self) -> str:
        content = msgspec.json.encode(replace(self, digest="")._content(), order="deterministic")
        return hashlib.sha256(content).hexdigest()

    def _content(self) -> dict[str, Any]:
        """The JSON object; without a licence it is that of bundles from before there was one."""
        content: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return {k: v for k, v in content.items() if k != "license" or v is not None}


def newest_bundle(root: Path = BUNDLES) -> Path:
    """The bundle exported last under ``root``."""
    return files.newest(root, FILE_NAME, "make a bundle first: python -m export")
