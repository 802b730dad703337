"""Models for Triton: configurations in its own schema, and graphs that make the labels alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from export.__main__ import main
from export.config import Export
from export.serving import triton
from runtime import files
from runtime.backends import trt, trt_cache
from runtime.backends.ov import core
from runtime.backends.registry import load_engine
from runtime.backends.trt_cache import BuildOptions, Sidecar
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError, OutputError
from train.datasets import open_index

ROOT = Path(__file__).parents[2]
MODELS = ("onnxruntime", "openvino", "tensorrt")


def parsed(folder: Path) -> ModelConfig:
    """The model's configuration; text_format.ParseError on a field that Triton does not know."""
    return text_format.Parse((folder / "config.pbtxt").read_text("utf-8"), ModelConfig())


def with_plan(bundle: Path, content: bytes, options: BuildOptions | None = None) -> Path:
    """What ``--engine tensorrt`` leaves on a target, but for the bytes, which nobody reads here."""
    graph = Manifest.load(bundle).files["model.onnx"]
    path = trt_cache.place(bundle, "tensorrt", "10.3.0", "NVIDIA-Orin-sm87")
    made = ("tensorrt", "10.3.0", "NVIDIA-Orin-sm87", options or BuildOptions())
    trt_cache.save(path, content, Sidecar(files.sha256_of(content), graph, *made))
    return path


@pytest.fixture(scope="module")
def exported(trained_run: Path, blocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An INT8 bundle, written with its models in one command; for reading only."""
    out = tmp_path_factory.mktemp("bundles")
    config = Export(trained_run, int8=True, data=blocks, out=out, calibration_method="minmax",
                    triton=out / "repository")  # fmt: skip
    main(config)
    return out / "tiny-int8"


@pytest.fixture(scope="module")
def repository(exported: Path) -> Path:
    """The models of that bundle."""
    return exported.parent / "repository"


def test_the_graphs_make_the_labels_of_the_bundle(
    exported: Path, repository: Path, blocks: Path
) -> None:
    """In the libraries that Triton runs, without our runtime's label tail."""
    index = open_index(blocks, "val")
    frames = [index.read(item)[0][None, ..., ::-1].copy() for item in index.items]
    model = onnxruntime.InferenceSession(repository / "tiny-int8-onnxruntime" / "1" / "model.onnx")
    compiled = core().compile_model(repository / "tiny-int8-openvino" / "1" / "model.onnx", "CPU")
    answers = {
        "onnxruntime": [model.run(["labels"], {"frame": frame})[0] for frame in frames],
        "openvino": [compiled({"frame": frame})["labels"] for frame in frames],
    }
    for backend, labels in answers.items():
        with load_engine(exported, backend) as engine:
            expected = np.stack([engine.infer(frame) for frame in frames])
        assert labels[0].dtype == np.uint8 and labels[0].shape == (1, 48, 64)
        # The tail and the graph may differ where two classes are as good as equal.
        assert (np.stack(labels) == expected).mean() >= 0.999, backend


def test_configurations_are_of_tritons_schema(exported: Path, repository: Path) -> None:
    manifest = Manifest.load(exported)
    assert sorted(path.name for path in repository.iterdir()) == [
        "tiny-int8-onnxruntime", "tiny-int8-openvino"
    ]  # fmt: skip
    for backend, platform in (("onnxruntime", "onnxruntime_onnx"), ("openvino", "")):
        folder = repository / f"tiny-int8-{backend}"
        config = parsed(folder)
        assert (config.name, config.backend, config.platform) == (folder.name, backend, platform)
        assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")
        assert (folder / "1" / config.default_model_filename).is_file()
        (frame,), (labels,) = config.input, config.output
        assert (frame.name, tuple(frame.dims)) == ("frame", manifest.input.shape)
        assert (labels.name, tuple(labels.dims)) == ("labels", manifest.output.shape)
        assert {frame.data_type, labels.data_type} == {
            ModelConfig().input.add(data_type=2).data_type
        }
        names = (folder / labels.label_filename).read_text("utf-8").splitlines()
        assert tuple(names) == manifest.classes.names
        (group,) = config.instance_group
        assert (group.kind, group.count) == (ModelInstanceGroup.KIND_CPU, 1)
        assert config.version_policy.latest.num_versions == 1


def test_parameters_prove_what_is_served(exported: Path, repository: Path) -> None:
    manifest = Manifest.load(exported)
    for backend in ("onnxruntime", "openvino"):
        folder = repository / f"tiny-int8-{backend}"
        values = {key: value.string_value for key, value in parsed(folder).parameters.items()}
        served = files.sha256(folder / "1" / "model.onnx")
        assert values["hedge.sha256"] == served == manifest.files["model.cpu.onnx"]
        assert values["hedge.precision"] == "int8" and values["hedge.bundle"] == manifest.digest
        assert values["hedge.calibration"].startswith("minmax on 8 images of blocks")
        miou = manifest.measured.miou_by_backend[backend]
        assert values["hedge.miou"].startswith(f"{miou:.4f} on 3 frames of blocks")
        assert (folder / "manifest.json").read_bytes() == (exported / "manifest.json").read_bytes()


def test_an_unknown_field_would_be_found(repository: Path) -> None:
    text = (repository / "tiny-int8-openvino" / "config.pbtxt").read_text("utf-8")
    with pytest.raises(text_format.ParseError, match="max_batches"):
        text_format.Parse(text.replace("max_batch_size", "max_batches"), ModelConfig())


def test_an_engine_of_tensorrt_becomes_a_plan(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(Export(bundle, triton=tmp_path / "without"))
    (note,) = capsys.readouterr().err.splitlines()
    assert "tiny: no engine of tensorrt" in note and "--engine tensorrt" in note
    engine = with_plan(bundle, b"plan")
    main(Export(bundle, triton=tmp_path / "with"))
    folder = tmp_path / "with" / "brightest-tensorrt"
    assert f"{folder}/1/model.plan" in capsys.readouterr().out.replace("\n", "")
    assert (folder / "1" / "model.plan").read_bytes() == engine.read_bytes()
    config = parsed(folder)
    assert (config.backend, config.platform) == ("tensorrt", "tensorrt_plan")
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    assert tuple(config.input[0].dims) == (1, 24, 32, 3) and config.max_batch_size == 0
    built_by = config.parameters["hedge.built_by"].string_value
    assert built_by == "tensorrt 10.3.0 for NVIDIA-Orin-sm87"


def test_an_engine_for_any_number_of_frames_gathers_requests(bundle: Path, tmp_path: Path) -> None:
    with_plan(bundle, b"plan", BuildOptions(max_batch=8))
    triton.write(bundle, tmp_path / "repository", force=False)
    config = parsed(tmp_path / "repository" / "brightest-tensorrt")
    assert config.max_batch_size == 8 and config.HasField("dynamic_batching")
    assert tuple(config.input[0].dims) == (24, 32, 3)
    assert tuple(config.output[0].dims) == (24, 32)
    assert parsed(tmp_path / "repository" / "brightest-openvino").max_batch_size == 0


def test_engines_that_triton_cannot_serve_are_left_out(bundle: Path, tmp_path: Path) -> None:
    """One of TensorRT-RTX, and one of a graph that the bundle no longer has."""
    trt.build(bundle, "tensorrt_rtx", ["sm89"])
    old = with_plan(bundle, b"plan").with_name("tensorrt-10.3.0-NVIDIA-Orin-sm87.engine.json")
    sidecar = msgspec.json.decode(old.read_bytes()) | {"graph": "another"}
    old.write_bytes(msgspec.json.encode(sidecar))
    written = triton.write(bundle, tmp_path / "repository", force=False)
    assert [path.name for path in written] == ["model.onnx", "model.onnx"]


def test_damage_is_refused_before_anything_is_written(bundle: Path, tmp_path: Path) -> None:
    engine = with_plan(bundle, b"plan")
    engine.write_bytes(b"plen")
    with pytest.raises(HedgeError, match=r"\.engine: sha256 differs from its sidecar"):
        triton.write(bundle, tmp_path / "repository", force=False)
    model = bundle / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(HedgeError, match=r"model\.onnx: sha256 differs from the manifest"):
        triton.write(bundle, tmp_path / "repository", force=False)
    assert not (tmp_path / "repository").exists()


def test_existing_models_and_other_folders_are_safe(bundle: Path, tmp_path: Path) -> None:
    config = Export(bundle, triton=tmp_path / "repository")
    main(config)
    old = tmp_path / "repository" / "brightest-openvino" / "1" / "model.onnx"
    old.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"brightest-\w+: exists; --force replaces it") as caught:
        main(config)
    assert caught.value.exit_code == 5 and old.read_bytes() == b"old"
    main(replace(config, force=True))
    assert old.read_bytes() == (bundle / "model.onnx").read_bytes()
    (old.parents[1] / "config.pbtxt").unlink()
    with pytest.raises(OutputError, match=r"holds no config\.pbtxt: choose another"):
        main(replace(config, force=True))
    assert len(list((tmp_path / "repository").iterdir())) == 2, "nothing half-written is left"


def test_odd_names_survive(bundle: Path, tmp_path: Path) -> None:
    name = 'Straße "B27"'
    replace(Manifest.load(bundle), name=name).save(bundle)
    triton.write(bundle, tmp_path, force=False)
    assert parsed(tmp_path / f"{name}-openvino").name == f"{name}-openvino"


def test_the_command_needs_no_torch(bundle: Path, tmp_path: Path) -> None:
    """On a box with the runtime alone; and its --help teaches it."""
    code = f"""
import sys
from pathlib import Path
from export.__main__ import main
from export.config import Export
main(Export(Path({str(bundle)!r}), triton=Path({str(tmp_path / "repository")!r})))
heavy = {{"torch", "torchvision", "onnx", "onnxscript", "google", "tritonclient"}}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
    assert (tmp_path / "repository" / "brightest-onnxruntime" / "1" / "model.onnx").is_file()
    command = [sys.executable, "-m", "export", "--help"]
    shown = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout
    assert "--triton" in shown and "Triton Inference Server" in shown
