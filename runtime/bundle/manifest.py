"""The manifest of a bundle: what the model is, what it answers with, and a hash of every file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta

from runtime import files
from runtime.bundle.classes import ClassSet
from runtime.bundle.golden import Golden
from runtime.bundle.graph import Tensor, read_border
from runtime.bundle.measured import Measured, Text
from runtime.errors import HedgeError

SCHEMA = 1
FILE_NAME = "manifest.json"
MODEL = "model.onnx"
ENGINES = "engines"  # what a machine makes of the bundle for itself; under no hash of ours
BUNDLES = Path("bundles")
_LARGEST = 16 << 20  # bytes of a manifest
_PIXELS = 1 << 28  # of all frames of a batch
_LONGEST = 100  # characters of a name

Precision = Literal["fp32", "fp16", "int8"]
Side = Annotated[int, Meta(ge=1, le=1 << 16)]
Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Calibration(TypedDict, total=False):
    """What the product reads of ``Manifest.calibration``."""

    data: Text
    split: Text
    method: Text
    images: list[Any] | dict[str, Any]


@dataclass(frozen=True)
class TensorSpec:
    """One tensor at the graph's border.

    shape: in the order of ``layout`` ("NHWC", "NHW"); color_order: "BGR" as decoded, or None.
    """

    name: Annotated[str, Meta(min_length=1, max_length=_LONGEST)]
    shape: tuple[Side, ...]
    dtype: Literal["uint8", "float32"]
    layout: Literal["NHWC", "NHW", "NCHW"]
    color_order: Literal["BGR"] | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything the runtime knows about a model; it takes no model flags beside it.

    precision: "fp32" | "fp16" | "int8"; files: sha256 of each file in the bundle, by relative
    path; logits: the scores that the graph's own upsampling and argmax make labels of, for engines
    whose host does that faster; graphs: the ONNX file for a backend that wants a form of its own;
    calibration: the images INT8 ranges came from, else None; built_with: library versions; license:
    terms of the weights; golden: frames that every engine must answer as PyTorch did, None in
    bundles from before there were any. Raises HedgeError for values that contradict each other, or
    that no export writes.
    """

    name: str
    variant: Text
    backbone: Text
    precision: Precision
    input: TensorSpec
    output: TensorSpec
    classes: ClassSet
    files: dict[str, Hash]
    logits: TensorSpec | None = None
    graphs: dict[Text, str] = field(default_factory=dict)
    measured: Measured = field(default_factory=Measured)
    calibration: dict[str, Any] | None = None
    built_with: dict[Text, Text] = field(default_factory=dict)
    license: Text | None = None
    golden: Golden | None = None
    schema: int = SCHEMA
    digest: str = ""  # sha256 over all other fields, so that a flipped bit here is found too

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise HedgeError(f"schema {self.schema}, this version reads {SCHEMA}")
        _check_name(self.name, "the name")
        if self.name.startswith(".") or set(self.name) & set("/\\"):
            raise HedgeError(f"the name {_shown(self.name)} is none for a folder")
        for name in self.classes.names:
            _check_name(name, "a class name")
        versions = (*self.built_with, *self.built_with.values())
        for text in (self.variant, self.backbone, self.license or "", *versions):
            if not text.isprintable():
                raise HedgeError(f"{_shown(text)} holds control codes")
        self._check_shapes()
        for name in self.files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise HedgeError(f"names a file outside the bundle: {_shown(name)}")
            for part in path.parts:
                _check_name(part, "a file name")
        named = {*self.graphs.values(), *(name for pair in self._golden_files for name in pair)}
        if unsealed := named - self.files.keys():
            raise HedgeError(f"file without a sha256: {_shown(min(unsealed))}")
        msgspec.convert(self.calibration, Calibration | None)

    def _check_shapes(self) -> None:
        frames, labels, scores = self.input, self.output, self.logits
        layouts = (frames.layout, labels.layout, scores.layout if scores else "NCHW")
        if layouts != ("NHWC", "NHW", "NCHW"):
            raise HedgeError("the graph must take NHWC frames and answer NHW labels of NCHW scores")
        if (frames.dtype, labels.dtype) != ("uint8", "uint8") or frames.color_order != "BGR":
            raise HedgeError("the graph must take uint8 BGR frames and answer uint8 labels")
        if len(frames.shape) != 4 or frames.shape[3] != 3:
            raise HedgeError(f"frames are (N, H, W, 3), not {frames.shape}")
        if labels.shape != frames.shape[:3]:
            raise HedgeError(f"labels {labels.shape} for frames {frames.shape}")
        if prod(labels.shape) > _PIXELS:
            raise HedgeError(f"frames {frames.shape}: more than {_PIXELS >> 20} Mi pixels at once")
        if scores is None:
            return
        if scores.dtype != "float32" or len(scores.shape) != 4:
            raise HedgeError(f"scores are float32 (N, C, h, w), not {scores.dtype} {scores.shape}")
        if scores.shape[:2] != (frames.shape[0], len(self.classes)):
            raise HedgeError(f"scores {scores.shape} for {len(self.classes)} classes")
        if any(own > full for own, full in zip(scores.shape[2:], labels.shape[1:], strict=True)):
            raise HedgeError(f"scores {scores.shape} are larger than the labels {labels.shape}")

    def graph(self, backend: str) -> str:
        """The bundle's ONNX file for ``backend``; HedgeError where it has none."""
        name = self.graphs.get(backend, MODEL)
        if name not in self.files:
            raise HedgeError(f"{self.name}: this bundle has no graph for {backend}")
        return name

    @property
    def _golden_files(self) -> list[tuple[str, str]]:
        return [] if self.golden is None else self.golden.files()

    @property
    def graph_files(self) -> set[str]:
        """The ONNX files that backends load."""
        return {MODEL, *self.graphs.values()} & self.files.keys()

    def save(self, bundle: Path) -> None:
        """Write ``bundle/manifest.json`` atomically."""
        content = self._content()
        sealed = content | {"digest": _digest(content)}
        files.write_bytes(bundle / FILE_NAME, msgspec.json.format(msgspec.json.encode(sealed)))

    @classmethod
    def load(cls, bundle: Path) -> Manifest:
        """Read and check a bundle: the manifest's rules and its digest, then every file.

        Files are checked by their sha256, and graphs by their border, which must be the manifest's.
        Raises HedgeError before any model parser has seen a byte: parsers accept damaged models
        and answer differently.
        """
        path = bundle / FILE_NAME
        if not path.is_file():
            raise HedgeError(f"{bundle}: {_instead(bundle)}")
        try:
            if path.stat().st_size > _LARGEST:
                raise HedgeError(f"larger than {_LARGEST >> 20} MiB")
            data = path.read_bytes()
            content = json.loads(data, object_pairs_hook=_unique)
            manifest = msgspec.json.decode(data, type=cls)
            measured = manifest.measured.read_from(content.get("measured", {}))
            manifest = replace(manifest, measured=measured)
            # The digest cannot see a damaged key, which would be left out for the default's sake.
            same = content == manifest._content()
            signed = manifest.digest in (_digest(content), _digest(content, order=None))
        except RecursionError as error:
            raise HedgeError(f"{path}: nested too deep; export again") from error
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            cause = files.printable(str(error))
            raise HedgeError(f"{path}: unreadable manifest: {cause}; export again") from error
        if not same or not signed:
            raise HedgeError(f"{path}: changed after it was written; export again or copy it anew")
        manifest._check_files(bundle)
        return manifest

    def _check_files(self, bundle: Path) -> None:
        if not self.graph_files:
            raise HedgeError(f"{bundle / FILE_NAME}: has no sha256 of {MODEL}; export again")
        for name, expected in self.files.items():
            self._check_file(bundle, name, expected)
        for path in bundle.rglob("*"):
            name = path.relative_to(bundle).as_posix()
            top = path.relative_to(bundle).parts[0]
            if top == ENGINES and not _is_within(path, bundle):  # it would be written through
                raise HedgeError(f"{path}: a link that leads out of the bundle; remove it")
            hidden = any(part.startswith(".") for part in path.relative_to(bundle).parts)
            ours = top in (FILE_NAME, ENGINES) or hidden or name in self.files
            if not ours and not path.is_dir():
                raise HedgeError(f"{path}: not in the manifest, so not of this bundle; remove it")
        for name in self.graph_files:
            try:
                self._check_border(bundle / name)
            except (OSError, ValueError) as error:
                raise HedgeError(f"{bundle / name}: {error}; export again") from error

    def _check_file(self, bundle: Path, name: str, expected: str) -> None:
        path = bundle / name
        if not _is_within(path, bundle):
            raise HedgeError(
                f"{path}: a link that leads out of the bundle; copy what it points to (cp -RL)"
            )
        if not path.is_file():
            raise HedgeError(f"{path}: missing from the bundle; copy the whole folder again")
        if files.sha256(path) != expected:
            raise HedgeError(f"{path}: sha256 differs from the manifest (damaged or replaced file)")

    def _check_border(self, graph: Path) -> None:
        """ValueError unless the graph has the tensors that the manifest describes."""
        border = read_border(graph)
        if border.inputs.keys() != {self.input.name}:
            raise ValueError(f"its inputs are not the manifest's {_shown(self.input.name)} alone")
        for spec, found in (
            (self.input, border.inputs),
            (self.output, border.outputs),
            *([(self.logits, border.outputs)] if self.logits else []),
        ):
            if spec.name not in found:
                raise ValueError(f"has no tensor {_shown(spec.name)}, which the manifest names")
            if not _fits(spec, found[spec.name]):
                dtype, shape = found[spec.name]
                raise ValueError(
                    f"{_shown(spec.name)} is {dtype} {shape}, but {spec.dtype} {spec.shape} in the "
                    "manifest"
                )

    def _content(self) -> dict[str, Any]:
        """The JSON object, without what is empty and bundles from before there was it lack."""
        content: dict[str, Any] = msgspec.json.decode(
            msgspec.json.encode(self, order="deterministic")
        )
        content["measured"] = self.measured.to_json()
        for name in ("license", "golden"):
            if content.get(name) is None:
                content.pop(name, None)
        old = ("names", "colors")
        content["classes"] = {k: v for k, v in content["classes"].items() if k in old or v}
        return content


def _instead(bundle: Path) -> str:
    """What a path without a manifest is, and what to do."""
    if not bundle.exists():
        return "not a bundle: no such folder; check the path, or make one: python -m export"
    if bundle.is_file():
        ours = (bundle.parent / FILE_NAME).is_file()
        fix = f"name its folder, {bundle.parent}" if ours else "unpack it, if it is packed"
        return f"a file, and a bundle is a folder; {fix}"
    inside = sorted(path.parent.name for path in bundle.glob(f"*/{FILE_NAME}"))
    if inside:
        return f"not a bundle, but a folder of them; name one: {', '.join(inside[:5])}"
    return f"not a bundle (no {FILE_NAME}); make one: python -m export"


def _is_within(path: Path, bundle: Path) -> bool:
    """Whether a file of a bundle lies in it, wherever links lead."""
    return bundle.resolve() in path.resolve().parents


def _digest(
    content: dict[str, Any], order: Literal["deterministic"] | None = "deterministic"
) -> str:
    """SHA-256 of all but itself; order: None as of bundles from before there were licences."""
    data = msgspec.json.encode(content | {"digest": ""}, order=order)
    return hashlib.sha256(data).hexdigest()


def _fits(spec: TensorSpec, found: Tensor) -> bool:
    """Whether a tensor of a graph is as described; a side that the graph leaves open fits."""
    dtype, shape = found
    return (
        dtype == spec.dtype
        and len(shape) == len(spec.shape)
        and all(side in (None, own) for side, own in zip(shape, spec.shape, strict=True))
    )


def _check_name(name: str, what: str) -> None:
    """Raise HedgeError unless ``name`` can be a file's, a line's and a picture's."""
    if not 0 < len(name) <= _LONGEST or not name.isprintable() or not name.strip():
        raise HedgeError(
            f"{what} is {_shown(name)}; names have 1 to {_LONGEST} characters, none of them control"
        )


def _shown(name: str) -> str:
    short = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
    return f'"{files.printable(short)}"'


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; ValueError where two share a key: parsers differ there."""
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {_shown(double)} occurs twice")
    return content


def newest_bundle(root: Path = BUNDLES) -> Path:
    """The bundle exported last under ``root``."""
    return files.newest(root, FILE_NAME, "make a bundle first: python -m export")
