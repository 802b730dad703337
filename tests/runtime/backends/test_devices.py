"""``--device``: what is here runs, what is not is one line that lists what is here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
from openvino import opset13 as ops

from benchmarks.__main__ import Benchmark, benchmark
from runtime.backends import ort, ov, trt_builder
from runtime.backends.auto import ANSWERS
from runtime.backends.registry import computes, load_engine, on_device
from runtime.config import VideoConfig
from runtime.errors import HedgeError
from runtime.segment import Segmenter
from runtime.video import main


@pytest.mark.parametrize("device", ["CPU", "cpu"])
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "auto"])
def test_a_device_that_is_here_runs(backend: str, device: str, bundle: Path) -> None:
    with Segmenter(bundle, backend, threads=1, device=device) as segmenter:
        frame = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
        assert (segmenter(frame) == frame.argmax(2)).all()


def test_openvino_may_choose(bundle: Path) -> None:
    with load_engine(bundle, "openvino", device="auto", in_flight=2) as engine:
        assert engine.device.startswith("AUTO CPU") and engine.in_flight == 2
        assert computes(engine) == "fp32"
    assert on_device("Auto", ["onnxruntime", "openvino"]) == {"openvino": "AUTO"}


def test_a_device_that_is_not_here_is_one_line(
    bundle: Path, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "drive.mp4", 2)
    config = VideoConfig(str(clip), bundle, device="NPU", out=tmp_path / "out.mp4")
    with pytest.raises(HedgeError) as caught:
        main(config)
    line = "--device NPU: not here; here are openvino: CPU, AUTO; onnxruntime: CPU"
    assert str(caught.value) == line and caught.value.exit_code == 2
    assert not (tmp_path / "out.mp4").exists()
    with pytest.raises(HedgeError, match=r"--device CUDA: not here; here are onnxruntime: CPU$"):
        load_engine(bundle, "onnxruntime", device="CUDA")
    with pytest.raises(HedgeError, match="--device QNN: not here"):
        benchmark(Benchmark((bundle,), device="QNN", out=tmp_path / "report"))
    with pytest.raises(HedgeError, match="unknown backend 'tensorfly'"):
        load_engine(bundle, "tensorfly", device="CPU")


def test_a_provider_that_does_not_start_is_not_replaced_by_the_cpu(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a wheel brings CUDA's provider and the machine lacks its libraries."""
    listed = ["TensorrtExecutionProvider", "DmlExecutionProvider", "AzureExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    assert ort.devices() == ["TensorRT", "DirectML"]
    with pytest.warns(UserWarning, match="Dml"), pytest.raises(HedgeError) as caught:
        load_engine(bundle, "onnxruntime", device="directml")
    assert str(caught.value).startswith("ONNX Runtime has DirectML, but it does not start here")


def test_numbered_devices_have_a_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        available_devices = ("CPU", "GPU.0", "GPU.1")

    monkeypatch.setattr(ov, "core", Core)
    assert ov.devices() == ["CPU", "GPU.0", "GPU.1", "GPU", "AUTO"]


def test_auto_remembers_each_device_by_itself(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEDGE_CACHE", str(tmp_path / "cache"))
    for device in ("CPU", "", "cpu"):
        load_engine(bundle, device=device, threads=1).close()
    assert len(list(ANSWERS.folder.iterdir())) == 2


def test_layers_of_tensorrt_are_counted_by_their_weights() -> None:
    """As its inspector describes them; written after its documents, no GPU has shown one here."""
    layers = """{"Layers": [
      {"Name": "conv", "Outputs": [{"Dimensions": [2, 8, 4, 5]}], "Weights": {"Type": "Int8", "Count": 72}},
      {"Name": "side", "Outputs": [{"Dimensions": [2, 8, 4, 5]}], "Weights": {"Type": "Half", "Count": 8}},
      {"Name": "pooling", "Outputs": [{"Dimensions": [2, 8, 1, 1]}]}, "a name alone"]}"""  # noqa: E501
    assert trt_builder.products(layers) == {"int8": 2 * 20 * 72, "fp16": 2 * 20 * 8}
    assert trt_builder.products('{"Layers": ["conv", "pooling"]}') == {}
    for other in ("", "[]", '{"Layers": [{"Weights": {"Type": "Half", "Count": 1}}]}'):
        assert trt_builder.products(other) == {}, "of another library's next version"


def test_matrix_products_of_several_heads_are_counted_once() -> None:
    """Queries by keys, then by values, as attention has them: (2, 3, 8, 5) · (2, 3, 9, 5)ᵀ · …"""
    queries, keys, values = (
        ops.parameter(shape, np.float32) for shape in ((2, 3, 8, 5), (2, 3, 9, 5), (2, 3, 9, 4))
    )
    scores = ops.matmul(queries, keys, transpose_a=False, transpose_b=True)
    answer = ops.matmul(ops.softmax(scores, 3), values, transpose_a=False, transpose_b=False)
    model = openvino.Model([answer], [queries, keys, values])
    config = {"INFERENCE_PRECISION_HINT": "f32", "SNIPPETS_MODE": "DISABLE"}
    compiled = ov.core().compile_model(model, "CPU", config)
    assert ov.products(compiled) == {"fp32": 2 * 3 * (8 * 9 * 5 + 8 * 4 * 9)}
