"""Models for DeepStream: documented settings, and a graph that nvinfer makes labels of."""

from __future__ import annotations

import configparser
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from export.__main__ import main
from export.config import Export
from export.serving.deepstream import config_text, nvinfer_graph
from runtime.backends.registry import load_engine
from runtime.bundle.manifest import Manifest
from runtime.bundle.shipped import find_bundle
from runtime.errors import HedgeError, OutputError
from tests.equipment.bundles import make_bundle

# Of DeepStream's "Gst-nvinfer File Configuration Specifications", group property: what may be
# written for each key that a segmentation network has use for.
DOCUMENTED = {
    "batch-size": range(1, 1 << 16),
    "gie-unique-id": range(1, 1 << 16),
    "gpu-id": range(16),
    "infer-dims": None,
    "labelfile-path": None,
    "maintain-aspect-ratio": (0, 1),
    "model-color-format": (0, 1, 2),
    "model-engine-file": None,
    "net-scale-factor": None,
    "network-input-order": (0, 1),
    "network-mode": (0, 1, 2),
    "network-type": (0, 1, 2, 3, 100),
    "num-detected-classes": range(1, 1 << 16),
    "offsets": None,
    "onnx-file": None,
    "output-blob-names": None,
    "output-tensor-meta": (0, 1),
    "process-mode": (1, 2),
    "scaling-filter": range(6),
    "segmentation-output-order": (0, 1),
    "segmentation-threshold": None,
    "workspace-size": None,
}
BGR, FP32, INT8, FP16, SEGMENTATION, PLANES = 1, 0, 1, 2, 2, 0


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose labels are of means of 4 × 4 pixels, written for DeepStream."""
    out = tmp_path_factory.mktemp("bundles")
    bundle = make_bundle(out / "tiny", size=(48, 64), scores=True)
    main(Export(bundle, deepstream=out / "deepstream"))
    return bundle


@pytest.fixture(scope="module")
def folder(exported: Path) -> Path:
    """What DeepStream is given of that bundle."""
    return exported.parent / "deepstream"


def settings(text: str) -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert parser.sections() == ["property"]
    return dict(parser["property"])


def class_map(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """(C, h, w) float32 → (h, w): what nvinfer makes of its first output; -1 is no class."""
    above = np.where(probabilities > max(threshold, -1.0), probabilities, -np.inf)
    return np.where(np.isfinite(above.max(0)), above.argmax(0), -1)


def test_settings_are_documented(exported: Path, folder: Path) -> None:
    found = settings((folder / "config_infer.txt").read_text("utf-8"))
    for key, value in found.items():
        allowed = DOCUMENTED[key]
        assert allowed is None or int(value) in allowed, key
    manifest = Manifest.load(exported)
    batch, height, width, _ = manifest.input.shape
    assert int(found["network-type"]) == SEGMENTATION and int(found["batch-size"]) == batch
    assert int(found["num-detected-classes"]) == len(manifest.classes)
    assert found["infer-dims"] == f"3;{height};{width}"
    names = (folder / found["labelfile-path"]).read_text("utf-8").splitlines()
    assert tuple(names) == manifest.classes.names
    assert (folder / "manifest.json").read_bytes() == (exported / "manifest.json").read_bytes()


def test_every_precision_has_its_mode(exported: Path) -> None:
    manifest = Manifest.load(exported)
    for precision, mode in (("fp32", FP32), ("int8", INT8), ("fp16", FP16)):
        found = settings(config_text(replace(manifest, precision=precision)))
        assert int(found["network-mode"]) == mode
        assert found["model-engine-file"] == f"model.onnx_b1_gpu0_{precision}.engine"


def test_its_rule_makes_the_labels_of_the_bundle(exported: Path, folder: Path) -> None:
    """nvinfer's own steps: planes by the settings, the first output, the largest above both."""
    found = settings((folder / "config_infer.txt").read_text("utf-8"))
    model = onnxruntime.InferenceSession(folder / found["onnx-file"])
    (taken,), (given,) = model.get_inputs(), model.get_outputs()
    assert given.name == found["output-blob-names"]
    assert taken.type == given.type == "tensor(float)"
    assert int(found["network-input-order"]) == int(found["segmentation-output-order"]) == PLANES
    assert int(found["model-color-format"]) == BGR and "offsets" not in found
    rough = np.random.default_rng(0).integers(256, size=(5, 6, 8, 3), dtype=np.uint8)
    frames = [cv2.resize(image, (64, 48)) for image in rough]
    with load_engine(exported, "onnxruntime") as engine:
        assert engine.keep_scores()
        for frame in frames:
            labels = engine.infer(frame[None])[0]
            assert engine.scores is not None
            planes = float(found["net-scale-factor"]) * frame.transpose(2, 0, 1)[None]
            answer = model.run(None, {taken.name: planes.astype(np.float32)})[0][0]
            ours = class_map(answer, float(found["segmentation-threshold"]))
            assert ours.shape == (24, 32) and ours.min() >= 0
            larger = np.stack([cv2.resize(plane, (32, 24)) for plane in engine.scores[0]])
            assert (ours == larger.argmax(0)).mean() > 0.99
            whole = cv2.resize(ours.astype(np.uint8), (64, 48), interpolation=0)
            assert (whole == labels).mean() > 0.9


def test_the_scores_themselves_would_leave_pixels_without_a_class() -> None:
    assert class_map(np.full((3, 1, 1), -2.0), 0.0) == [[-1]]


def test_int8_scales_stay_in_the_graph(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bundle = find_bundle(Path("street19"))
    model = onnx.load(bundle / "model.onnx")
    before = sum(node.op_type == "QuantizeLinear" for node in model.graph.node)
    graph = nvinfer_graph(model, Manifest.load(bundle)).graph
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) == before > 20
    (taken,), (given,) = graph.input, graph.output
    assert taken.type.tensor_type.elem_type == given.type.tensor_type.elem_type == 1
    assert [side.dim_value for side in given.type.tensor_type.shape.dim] == [1, 19, 256, 512]
    assert not {node.op_type for node in graph.node} & {"ArgMax", "Transpose"}
    main(Export(bundle, deepstream=tmp_path / "street"))
    assert "trtexec --onnx=model.onnx --stronglyTyped" in " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_written_is_one_line(exported: Path, folder: Path, bundle: Path) -> None:
    with pytest.raises(OutputError, match="exists; --force replaces it"):
        main(Export(exported, deepstream=folder))
    with pytest.raises(HedgeError, match="answers labels without scores, which DeepStream needs"):
        main(Export(bundle, deepstream=folder, force=True))
    assert (folder / "config_infer.txt").is_file()
