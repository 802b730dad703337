"""ONNX files read and cut without a library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from runtime.backends import ort
from runtime.backends.registry import load_engine
from runtime.bundle.graph import read_border, write_part
from runtime.bundle.manifest import Manifest
from tests.equipment.bundles import make_bundle


@pytest.fixture(params=["output", "described", "last"])
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """x + 1 = wanted, and behind it nodes that fail as they run; how the file knows ``wanted``."""
    wanted = helper.make_tensor_value_info("wanted", TensorProto.FLOAT, [200])
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [7])
    nodes = [
        helper.make_node("Add", ["x", "one"], ["wanted"]),
        helper.make_node("Reshape", ["wanted", "shape"], ["fails"]),
        helper.make_node("Neg", ["fails"], ["labels"]),
    ]
    end = helper.make_tensor_value_info("labels", TensorProto.FLOAT, [7])
    outputs = {"output": [end, wanted], "described": [end], "last": [wanted]}[request.param]
    made = helper.make_graph(
        nodes[: 1 if request.param == "last" else 3],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [200])],
        outputs,
        [helper.make_tensor("one", TensorProto.FLOAT, [200], np.ones(200)), shape],
        value_info=[wanted] if request.param == "described" else [],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_part_ends_at_its_tensor(graph: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.onnx"
    write_part(graph, "wanted", part)
    onnx.checker.check_model(part, full_check=True)
    assert read_border(part).outputs.keys() == {"wanted"}
    assert [node.op_type for node in onnx.load(part).graph.node] == ["Add"]
    session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
    assert (session.run(None, {"x": np.zeros(200, np.float32)})[0] == 1).all()


def test_onnx_runtime_computes_nothing_behind_the_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path / "bundle", scores=True)
    manifest = Manifest.load(bundle)
    assert manifest.logits is not None
    with load_engine(bundle, "onnxruntime", threads=1) as engine:
        assert isinstance(engine, ort.OrtEngine) and engine._session is not None
        assert [one.name for one in engine._session.get_outputs()] == [manifest.logits.name]
        frames = np.random.default_rng(0).integers(256, size=manifest.input.shape, dtype=np.uint8)
        expected = engine.infer(frames)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no folder"))
    with load_engine(bundle, "onnxruntime", threads=1) as engine:
        assert np.array_equal(engine.infer(frames), expected), "without a place for the part"
