"""PyTorch, plain ONNX Runtime and the bare libraries beside a real bundle of the same weights."""

from __future__ import annotations

import runpy
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from msgspec import structs

from benchmarks.cells import bare_library, naive_onnxruntime, pytorch
from benchmarks.cells.engine import EngineCell, Scene
from benchmarks.cells.worker import Spec, to_json
from benchmarks.results import YARDSTICKS
from benchmarks.run.plan import COMPILED, NAIVE, PEERS
from export.config import Export
from export.exporter import export
from export.own.trained import Trained
from runtime.backends.registry import computes, load_engine
from runtime.errors import HedgeError
from train.checkpoint import Checkpoint
from train.device import cpu_has_bf16

PYTORCH = [way for way in PEERS["cpu"] if way not in (NAIVE, *COMPILED)]


@pytest.fixture(scope="module")
def bundle(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FP32 bundle of a trained run."""
    target = tmp_path_factory.mktemp("bundles") / "tiny-fp32"
    with tempfile.TemporaryDirectory() as work:
        checkpoint = Checkpoint.load(trained_run / "best.pt")
        export(Export(frames=1), Trained(checkpoint), target, "fp32", Path(work))
    return target


@pytest.fixture(scope="module")
def frame(blocks: Path) -> Path:
    """An image that the run has not seen."""
    return blocks / "images" / "val" / "val0.png"


@pytest.fixture
def spec(bundle: Path, trained_run: Path, frame: Path, tmp_path: Path) -> Spec:
    """What a child would be given, but for the way."""
    frames = tmp_path / "frames.json"
    frames.write_bytes(to_json([Scene("val0", frame)]))
    return Spec(
        "", bundle, "openvino", 1, frames, tmp_path, weights=(trained_run / "best.pt",)
    )  # fmt: skip


def _labels(cell: EngineCell, frame: Path) -> np.ndarray:
    return cell._segmenter(cv2.imread(str(frame)))


def test_every_way_of_pytorch_is_known() -> None:
    for device, ways in PEERS.items():
        known = {name for name, way in pytorch.WAYS.items() if way.device == device}
        assert set(ways) - {NAIVE} == known
        assert ways[0] == YARDSTICKS[device]


@pytest.mark.parametrize("way", [way for way in PEERS["cuda"] if way not in COMPILED])
def test_a_gpus_way_answers_and_computes_as_it_says(way: str, spec: Spec, frame: Path) -> None:
    """Its own code on the CPU: what only a GPU has is left out (graphs, page-locked memory)."""
    make = pytorch.WAYS[way].engine
    kwargs = getattr(make, "keywords", {}) | {"recorded": False, "device": "cpu"}
    engine = pytorch.CudaTorch(*pytorch.deployed(spec.weights, spec.bundle), **kwargs)
    cell = EngineCell(spec, engine)
    with load_engine(spec.bundle, "onnxruntime", 1) as ours:
        expected = _labels(EngineCell(spec, ours), frame)
    first = _labels(cell, frame)
    assert (first == expected).mean() > (0.97 if "fp16" in way else 0.999)
    assert (_labels(cell, frame) == first).all() and engine.infer(cell._batch(0)).flags.owndata
    seen: list[torch.Tensor] = []
    engine._graph.network.aspp.register_forward_hook(lambda _, __, answer: seen.append(answer))
    engine.infer(cell._batch(0))
    assert seen[0].is_contiguous() != ("channels_last" in way)
    assert seen[0].dtype == (torch.float16 if "fp16" in way else torch.float32)


def test_without_a_gpu_its_ways_say_so(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HedgeError, match="finds no NVIDIA GPU"):
        pytorch.load(replace(spec, way=YARDSTICKS["cuda"]))


@pytest.mark.gpu
@pytest.mark.parametrize("way", PEERS["cuda"])
def test_pytorch_on_a_gpu_answers_as_the_bundle(way: str, spec: Spec, frame: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    cell = pytorch.load(replace(spec, way=way))
    with load_engine(spec.bundle, "onnxruntime", 1) as ours:
        expected = _labels(EngineCell(spec, ours), frame)
    for _ in range(2):  # the second is the graph's replay
        assert (_labels(cell, frame) == expected).mean() > (0.97 if "fp16" in way else 0.995)
    assert cell.measure(0) > 0


@pytest.mark.parametrize("way", PYTORCH)
def test_pytorch_answers_as_the_bundle(way: str, spec: Spec, frame: Path) -> None:
    if "bf16" in way and not cpu_has_bf16():
        with pytest.raises(HedgeError, match="does not compute bf16"):
            pytorch.load(replace(spec, way=way))
        return
    threads = torch.get_num_threads()
    cell = pytorch.load(replace(spec, way=way))
    torch.set_num_threads(threads)
    with load_engine(spec.bundle, "onnxruntime", 1) as engine:
        ours = _labels(EngineCell(spec, engine, computes(engine)), frame)
    agreement = (_labels(cell, frame) == ours).mean()
    assert agreement > (0.97 if "bf16" in way else 0.999)
    assert cell.measure(0) > 0
    assert cell.ready() == ("bf16" if "bf16" in way else "fp32")


@pytest.mark.parametrize("way", [way for way in PYTORCH if cpu_has_bf16() or "bf16" not in way])
def test_pytorch_computes_in_the_layout_that_is_named(way: str, spec: Spec) -> None:
    threads = torch.get_num_threads()
    cell = pytorch.load(replace(spec, way=way))
    torch.set_num_threads(threads)
    seen: list[torch.Tensor] = []
    network = cell._engine._graph.network  # type: ignore[attr-defined]
    network.aspp.register_forward_hook(lambda _, __, answer: seen.append(answer))
    cell._engine.infer(cell._batch(0))
    assert seen[0].is_contiguous() != ("channels_last" in way)
    assert seen[0].dtype == (torch.bfloat16 if "bf16" in way else torch.float32)


def test_naive_onnx_runtime_answers_as_the_bundle(
    spec: Spec, frame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = spec.scratch / "plain.onnx"
    monkeypatch.setattr(sys, "argv", ["", str(spec.bundle), str(graph), str(spec.weights[0])])
    runpy.run_path(pytorch.__file__, run_name="__main__")
    cell = naive_onnxruntime.load(replace(spec, weights=(graph,), backend="onnxruntime"))
    with load_engine(spec.bundle, "onnxruntime", 1) as engine:
        ours = _labels(EngineCell(spec, engine, "fp32"), frame)
    assert (_labels(cell, frame) == ours).mean() > 0.999


def test_of_several_checkpoints_the_bundles_is_taken(spec: Spec, tmp_path: Path) -> None:
    (own,) = spec.weights
    checkpoint = Checkpoint.load(own)
    later = checkpoint.weights | {pytorch.BIAS: checkpoint.weights[pytorch.BIAS] * 1.01}
    other = tmp_path / "other.pt"
    replace(checkpoint, weights=later).save(other)
    with pytest.raises(HedgeError, match=r"other.pt: not the weights that tiny-fp32 was made of"):
        pytorch.deployed([other], spec.bundle)
    graph, _ = pytorch.deployed([other, own], spec.bundle)
    taken = graph.network.state_dict()[pytorch.BIAS]
    assert torch.equal(taken, checkpoint.weights[pytorch.BIAS])


def test_weights_for_other_classes_are_refused(spec: Spec, tmp_path: Path) -> None:
    checkpoint = Checkpoint.load(spec.weights[0])
    classes = structs.replace(checkpoint.classes, names=("red", "green", "blue"))
    replace(checkpoint, classes=classes).save(tmp_path / "best.pt")
    with pytest.raises(HedgeError, match="not the weights"):
        pytorch.deployed([tmp_path / "best.pt"], spec.bundle)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_bare_loops_answer_what_their_way_says(backend: str, spec: Spec, frame: Path) -> None:
    spec = replace(spec, backend=backend)
    cells = {way: bare_library.load(replace(spec, way=way)) for way in bare_library.LOOPS}
    with load_engine(spec.bundle, backend, 1) as engine:
        ours = EngineCell(spec, engine)
        batch = ours._batch(0)
        labels = engine.infer(batch)
        scores = engine.manifest.logits
    answers = {way: cell._engine.infer(batch) for way, cell in cells.items()}  # type: ignore[attr-defined]
    assert scores is not None and answers["loop"].shape == scores.shape
    assert (answers["loop + tail"] == labels).all()
    assert (answers["whole graph"] == labels).mean() > 0.999
    other = np.zeros_like(batch)
    tail = cells["loop + tail"]._engine  # type: ignore[attr-defined]
    assert not (tail.infer(other) == labels).all(), "a new batch is filled in"
    assert all(cell.measure(0) > 0 for cell in cells.values())


def test_benchmark_app_measures_our_compiled_model(spec: Spec) -> None:
    cell = bare_library.load(replace(spec, way="benchmark_app"))
    assert 0 < cell.measure(0) < 1000
    assert cell.ready() == ""


def test_a_program_that_is_missing_is_named(
    spec: Spec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HedgeError, match="trtexec: not installed"):
        bare_library.load(replace(spec, way="trtexec", backend="tensorrt"))


def test_trtexec_is_read_from_host_to_host() -> None:
    text = """
[I] Throughput: 812.3 qps
[I] Latency: min = 1.11 ms, max = 1.9 ms, mean = 1.2 ms, median = 1.18 ms, percentile(90%) = 1.3 ms
[I] GPU Compute Time: min = 0.9 ms, max = 1.2 ms, mean = 1.0 ms, median = 0.98 ms
"""
    assert bare_library.trtexec_median(text) == 1.18
    with pytest.raises(HedgeError, match="no latency"):
        bare_library.trtexec_median("&&&& FAILED")
