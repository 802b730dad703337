"""A bundle → models for Triton Inference Server, which answer with labels by their graphs alone.

The files are the bundle's own, byte for byte. Our runtime may stop a CPU graph at its scores and
make labels of them itself (``runtime.backends.label_tail``); the graph's own end, which Triton
runs, is in the file all the same. Nothing here needs more than the runtime does: the text of a
configuration is written as it is, and a test parses it with Triton's own schema.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from export.staging import staged
from runtime import cli
from runtime.backends import trt_cache
from runtime.backends.trt_cache import Sidecar
from runtime.bundle.manifest import FILE_NAME, Manifest

CONFIG, LABELS = "config.pbtxt", "labels.txt"
VERSION = "1"
_PREFIX = "hedge."  # of parameters that are for people; backends read none of them


@dataclass(frozen=True)
class Model:
    """One folder of the repository.

    source: the file of the bundle that is copied to ``file``; platform: Triton's name for the
    file's kind, "" where the backend tells it; max_batch: 0 where the graph's own number of
    frames is the only one; parameters: settings of the backend, and what is to be known of the
    file.
    """

    backend: str
    source: Path
    sha256: str
    file: str = "model.onnx"
    platform: str = ""
    kind: str = "KIND_CPU"
    max_batch: int = 0
    parameters: dict[str, str] = field(default_factory=dict)


def write(bundle: Path, repository: Path, force: bool) -> list[Path]:
    """Write the bundle's models into ``repository`` and name their files.

    Raises HedgeError where the bundle or its engine is damaged, before anything is written, and
    OutputError where a model of that name is there and ``force`` is not given.
    """
    manifest = Manifest.load(bundle)
    models = [*_cpu_models(bundle, manifest), *_tensorrt_models(bundle, manifest)]
    places = [repository / _name(model, manifest) for model in models]
    with ExitStack() as stack:
        folders = [stack.enter_context(staged(place, force, CONFIG)) for place in places]
        for model, folder in zip(models, folders, strict=True):
            _fill(folder, model, manifest, bundle)
    return [place / VERSION / model.file for place, model in zip(places, models, strict=True)]


def _cpu_models(bundle: Path, manifest: Manifest) -> list[Model]:
    rows = {
        "onnxruntime": ("onnxruntime_onnx", {}),
        "openvino": ("", {"PERFORMANCE_HINT": "LATENCY"}),
    }
    return [
        Model(
            backend,
            source=bundle / manifest.graph(backend),
            sha256=manifest.files[manifest.graph(backend)],
            platform=platform,
            parameters=settings,
        )
        for backend, (platform, settings) in rows.items()
    ]


def _tensorrt_models(bundle: Path, manifest: Manifest) -> list[Model]:
    """The engine built last from the bundle's present graph, if any; checked by its sidecar."""
    graph = manifest.files[manifest.graph("tensorrt")]
    for path in trt_cache.built(bundle, "tensorrt"):
        sidecar = Sidecar.load(path)
        if sidecar.graph == graph:
            sidecar.read(path)
            built = f"{sidecar.library} {sidecar.version} for {sidecar.device}"
            return [
                Model(
                    "tensorrt", path, sidecar.engine, "model.plan", "tensorrt_plan", "KIND_GPU",
                    sidecar.options.max_batch or 0, {_PREFIX + "built_by": built},
                )
            ]  # fmt: skip
    cli.say(
        f"{bundle}: no engine of tensorrt, so no model for it (Triton loads none of tensorrt_rtx); "
        f"on the target: python -m export {bundle} --engine tensorrt --triton …",
        cli.err,
    )
    return []


def _fill(folder: Path, model: Model, manifest: Manifest, bundle: Path) -> None:
    names = manifest.classes.names
    (folder / VERSION).mkdir()
    shutil.copyfile(model.source, folder / VERSION / model.file)
    shutil.copyfile(bundle / FILE_NAME, folder / FILE_NAME)  # the whole passport
    (folder / LABELS).write_text("".join(f"{name}\n" for name in names), "utf-8")
    (folder / CONFIG).write_text(config_text(model, manifest), "utf-8")


def config_text(model: Model, manifest: Manifest) -> str:
    """The model's ``config.pbtxt``: a ModelConfig in protobuf's text format."""
    parameters = model.parameters | _facts(model, manifest)
    lines = [
        f"name: {_quoted(_name(model, manifest))}",
        f"backend: {_quoted(model.backend)}",
        *([f"platform: {_quoted(model.platform)}"] if model.platform else []),
        f"default_model_filename: {_quoted(model.file)}",
        f"max_batch_size: {model.max_batch}",
        *(["dynamic_batching { }"] if model.max_batch else []),
        _tensor("input", manifest.input.name, manifest.input.shape, model),
        _tensor("output", manifest.output.name, manifest.output.shape, model),
        f"instance_group [ {{ count: 1 kind: {model.kind} }} ]",
        "version_policy { latest { num_versions: 1 } }",
        *(
            f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
            for key, value in parameters.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _tensor(role: str, name: str, shape: tuple[int, ...], model: Model) -> str:
    """Triton adds the batch to the shape itself where it may choose it."""
    dims = ", ".join(str(size) for size in (shape[1:] if model.max_batch else shape))
    labels = f" label_filename: {_quoted(LABELS)}" if role == "output" else ""
    return f"{role} [ {{ name: {_quoted(name)} data_type: TYPE_UINT8 dims: [ {dims} ]{labels} }} ]"


def _facts(model: Model, manifest: Manifest) -> dict[str, str]:
    """What the model is, how accurate, and what it was calibrated with; all of it in full stands
    in the manifest beside the configuration.
    """
    measured, passport = manifest.measured, manifest.calibration
    facts = {
        "sha256": model.sha256,
        "bundle": manifest.digest,
        "precision": manifest.precision,
        "variant": f"{manifest.variant} {manifest.backbone}",
        "input": f"{manifest.input.layout} {manifest.input.color_order}",
    }
    if (miou := measured.miou_by_backend.get(model.backend)) is not None:
        frames = f"{measured.images} frames of {measured.data} ({measured.split})"
        facts["miou"] = f"{miou:.4f} on {frames}"
    if passport is not None:
        data = f"{passport.get('data')} ({passport.get('split')})"
        images = f"{len(passport.get('images', []))} images of {data}"
        facts["calibration"] = f"{passport.get('method')} on {images}"
    return {_PREFIX + key: value for key, value in facts.items()}


def _name(model: Model, manifest: Manifest) -> str:
    return f"{manifest.name}-{model.backend}"


def _quoted(text: str) -> str:
    """As a string of the text format, whose escapes are JSON's."""
    return json.dumps(text, ensure_ascii=False)
