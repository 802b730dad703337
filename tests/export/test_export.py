"""From checkpoint to bundle: the same labels as PyTorch, in one graph, or no bundle at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from export import verify
from export.__main__ import Export, main
from export.bundle import describe, hashes
from export.own.deploy import DeployGraph
from export.own.to_onnx import to_onnx
from export.own.trained import Trained
from runtime.accuracy.metrics import ConfusionMatrix
from runtime.backends import golden
from runtime.backends.registry import installed_backends, load_engine
from runtime.bundle.classes import CITYSCAPES, IGNORE, ClassSet
from runtime.bundle.manifest import Manifest
from runtime.errors import GateError, HedgeError, OutputError
from runtime.segment import Segmenter
from train.checkpoint import Checkpoint
from train.config import VARIANTS, ModelConfig, TrainConfig
from train.datasets import open_index
from train.evaluation.scoring import evaluation_index, load_model
from train.models import DeepLab

SIZE = (40, 56)


@pytest.fixture(scope="module")
def exported(trained_run: Path, blocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FP32 and FP16 bundles of the trained model; for reading only."""
    out = tmp_path_factory.mktemp("bundles")
    main(Export(trained_run, fp32=True, fp16=True, data=blocks, out=out, name="tiny"))
    return out


@pytest.mark.parametrize(
    ("backbone", "variant", "hed"),
    [
        ("mobilenet_v2", "dlse_hed", None),
        *(("timm/test_resnet", variant, None) for variant in VARIANTS),
        *(("timm/test_resnet", "dlse_hed", hed) for hed in ("fpn", "supervised", "blank")),
        ("resnet18", "dlse_hed", "vgg16"),
    ],
)
def test_every_variant_exports_and_runs_alike_everywhere(
    variant: str, backbone: str, hed: str | None, trained_run: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = TrainConfig(variant=variant, backbone=backbone, hed=hed)  # type: ignore[arg-type]
    source = Checkpoint.load(trained_run / "best.pt")
    model = DeepLab(config.model(len(source.classes))).eval()
    graph = DeployGraph(model, SIZE, SIZE)
    to_onnx(graph, 1, tmp_path / "model.onnx")
    counted = _multiply_adds(tmp_path / "model.onnx")
    # Blank edges are a constant, which export folds.
    assert graph.multiply_adds() == pytest.approx(counted, rel=1e-3 if hed == "blank" else 0)
    manifest = describe(Trained(source).facts, "x", "fp32", 1, graph)
    replace(manifest, files=hashes(tmp_path)).save(tmp_path)
    frame = np.random.default_rng(0).integers(256, size=(1, *SIZE, 3), dtype=np.uint8)
    expected = verify.TorchEngine(graph, manifest).infer(frame)
    for backend in installed_backends():
        with load_engine(tmp_path, backend) as engine:
            labels = engine.infer(frame)
        assert labels.dtype == np.uint8 and labels.shape == (1, *SIZE)
        assert (labels == expected).mean() >= 0.99, backend  # random weights: near-ties abound


def _multiply_adds(path: Path) -> int:
    """Of the convolutions and matrix products that the exported graph holds."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        assert node.op_type != "ConvTranspose"
        answer = prod(shapes[node.output[0]])
        if node.op_type == "Conv":
            total += answer * prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            total += answer * shapes[node.input[0]][-1]
    return total


def test_the_graph_takes_frames_and_gives_labels(exported: Path) -> None:
    for precision, kind in (("fp32", "FLOAT"), ("fp16", "FLOAT16")):
        graph = onnx.load(exported / f"tiny-{precision}" / "model.onnx").graph
        assert [i.name for i in graph.input] == ["frame"]
        assert [o.name for o in graph.output] == ["labels", "logits"]
        for value in (graph.input[0], graph.output[0]):
            assert value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        first = [node for node in graph.node if "frame" in node.input]
        assert [node.op_type for node in first] == ["Cast"], "TensorRT wants nothing else there"
        operators = {node.op_type for node in graph.node}
        assert "GlobalAveragePool" in operators and not operators & {
            "ReduceMean", "BatchNormalization", "GatherND", "Dropout",
        }  # fmt: skip
        weights = {t.data_type for t in graph.initializer if len(t.dims) == 4}
        assert weights == {getattr(onnx.TensorProto, kind)}


def test_the_manifest_says_what_was_measured(exported: Path, trained_run: Path) -> None:
    checkpoint = Checkpoint.load(trained_run / "best.pt")
    for precision in ("fp32", "fp16"):
        manifest = Manifest.load(exported / f"tiny-{precision}")
        assert (manifest.variant, manifest.backbone) == ("dlse_hed", "timm/test_resnet")
        assert manifest.precision == precision and manifest.classes == checkpoint.classes
        assert manifest.input.shape == (1, 48, 64, 3) and manifest.input.color_order == "BGR"
        measured = manifest.measured
        assert measured.images == 3 and measured.split == "val"
        assert set(measured.agreement) == set(installed_backends())
        for backend, agreement in measured.agreement.items():
            coarse = measured.computes[backend] in verify.COARSE  # judged by mIoU
            assert agreement >= (0.9 if coarse else verify.AGREEMENT[precision])
        assert abs(measured.miou - measured.miou_pytorch) < 0.02
        assert manifest.built_with.keys() >= {"torch", "onnx"}


def test_engines_tell_what_they_compute_in(exported: Path) -> None:
    """By the graphs that they execute, and as much as export counted; padded channels aside."""
    for backend, arithmetics in (("openvino", {"fp32"}), ("onnxruntime", {"fp32"})):
        with load_engine(exported / "tiny-fp32", backend) as engine:
            counts = engine.multiply_adds()
            assert counts.keys() == arithmetics
            wanted = engine.manifest.measured.multiply_adds
            assert sum(counts.values()) == pytest.approx(wanted, rel=0.1)


def test_bundles_carry_golden_frames(exported: Path, blocks: Path) -> None:
    """Pictures of the data, PyTorch's labels, and a bound for each arithmetic of a precision."""
    every = {"fp32": {"fp32"}, "fp16": {"fp32", "bf16", "fp16"}}
    for precision, arithmetics in every.items():
        bundle = exported / f"tiny-{precision}"
        manifest = Manifest.load(bundle)
        assert manifest.golden is not None and manifest.golden.data == f"{blocks.name} (val)"
        assert manifest.golden.bounds.keys() == arithmetics
        assert all(0.5 < bound <= 0.999 for bound in manifest.golden.bounds.values())
        pictures, labels = golden.load(bundle, manifest)
        assert (pictures.shape, labels.shape) == ((3, 48, 64, 3), (3, 48, 64))
        frames = [frame.image for frame in verify.labelled(open_index(blocks, "val"), 3).frames]
        assert (pictures == frames).all()
        assert len(np.unique(labels[labels != IGNORE])) == 3
        assert sum(path.stat().st_size for path in (bundle / "golden").iterdir()) < 40_000


def test_the_graph_names_no_path_of_the_machine(exported: Path) -> None:
    graph = (exported / "tiny-fp32" / "model.onnx").read_bytes()
    assert b"deploy.py" not in graph and str(Path(__file__).parents[2]).encode() not in graph


def test_fp16_is_half_the_size(exported: Path) -> None:
    full, half = ((exported / f"tiny-{p}" / "model.onnx").stat().st_size for p in ("fp32", "fp16"))
    assert 0.45 < half / full < 0.6


def test_frames_are_resized_inside_the_graph(trained_run: Path) -> None:
    model = load_model(Checkpoint.load(trained_run / "best.pt"))
    graph = DeployGraph(model, (48, 64), (96, 128))
    frame = np.random.default_rng(1).integers(256, size=(1, 48, 64, 3), dtype=np.uint8)
    large = frame.repeat(2, axis=1).repeat(2, axis=2)
    with torch.inference_mode():
        labels = graph(torch.from_numpy(large))[0].numpy()
        small = DeployGraph(model, (48, 64), (48, 64))(torch.from_numpy(frame))[0].numpy()
    assert labels.shape == (1, 96, 128)
    nearest = cv2.resize(labels[0], (64, 48), interpolation=cv2.INTER_NEAREST)
    assert (nearest == small[0]).mean() > 0.9  # only upsampling to another size lies in between


def test_colour_order_is_bgr(exported: Path, blocks: Path) -> None:
    """A class is a colour here: a frame with red and blue exchanged is labelled otherwise."""
    index = open_index(blocks, "val")
    image, target = index.read(index.items[0])
    with Segmenter(exported / "tiny-fp32") as segmenter:
        bgr, rgb = (
            (segmenter(np.ascontiguousarray(frame)) == target).mean()
            for frame in (image[..., ::-1], image)
        )
    assert bgr > 0.8 and rgb < bgr - 0.2


def test_batches_and_camera_sizes(trained_run: Path, blocks: Path, tmp_path: Path) -> None:
    small, large = (48, 64), (96, 320)
    config = Export(trained_run, fp32=True, batch=2, size=small, frame_size=large, data=blocks)
    main(replace(config, out=tmp_path, golden="drawn"))
    manifest = Manifest.load(tmp_path / "tiny-fp32")
    assert manifest.input.shape == (2, *large, 3) and manifest.output.shape == (2, *large)
    assert manifest.golden is not None and manifest.golden.data == "drawn streets"
    pictures, labels = golden.load(tmp_path / "tiny-fp32", manifest)
    assert (pictures.shape, labels.shape) == ((3, 77, 256, 3), (3, 77, 256))
    with load_engine(tmp_path / "tiny-fp32", "onnxruntime") as engine:
        assert golden.agreement(engine, tmp_path / "tiny-fp32") > 0.999


def test_without_the_data_set_parity_is_shown_on_drawn_streets(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Checkpoint.load(trained_run / "best.pt")
    moved = replace(checkpoint, config=replace(checkpoint.config, data=tmp_path / "gone"))
    (tmp_path / "tiny").mkdir()
    moved.save(tmp_path / "tiny" / "best.pt")
    main(Export(tmp_path / "tiny", out=tmp_path / "bundles", frames=4))
    assert "gone: not on this machine" in capsys.readouterr().err
    measured = Manifest.load(tmp_path / "bundles" / "tiny-fp32").measured
    assert measured.miou is None and measured.images == 4
    assert min(measured.agreement.values()) >= verify.AGREEMENT["fp32"]
    assert measured.multiply_adds > 1e6
    with pytest.raises(HedgeError, match="gone"):
        main(Export(tmp_path / "tiny", out=tmp_path / "other", data=tmp_path / "gone"))


def test_a_bundle_below_the_gate_is_not_published(
    trained_run: Path, blocks: Path, export_again: Callable[[Export], Manifest], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(verify.AGREEMENT, "fp32", 1.01)
    with pytest.raises(GateError, match=r"worst frame .*tiny-fp32-worst\.png; not published"):
        export_again(Export(trained_run, data=blocks, out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-fp32-worst.png"]
    assert cv2.imread(str(tmp_path / "tiny-fp32-worst.png")).shape == (48, 4 * 64, 3)


def test_a_drifting_engine_is_caught(trained_run: Path, blocks: Path, tmp_path: Path) -> None:
    """A model whose weights moved after training agrees no more, and the gate says by how much."""
    checkpoint = Checkpoint.load(trained_run / "best.pt")
    model = load_model(checkpoint)
    graph = DeployGraph(model, (48, 64), (48, 64))
    manifest = describe(Trained(checkpoint).facts, "x", "fp32", 1, graph)
    reference = verify.TorchEngine(graph, manifest)
    with torch.no_grad():
        model.classifier.bias[0] += 3
    drifted = verify.TorchEngine(DeployGraph(model, (48, 64), (48, 64)), manifest)
    drifted.backend = "drifted"
    frames = verify.labelled(open_index(blocks, "val"), 3).frames
    results = verify.compare(Segmenter.of(reference), [Segmenter.of(drifted)], frames)
    assert results["pytorch"].agreement == 1
    with pytest.raises(GateError, match="drifted gives"):
        verify.require(results, "fp32", verify.Budget(miou=100, worst=None))


def one_answer(computes: str, flipped: int, labelled: bool = True) -> dict[str, verify.Comparison]:
    """PyTorch, right on all of 100×100 pixels, and an engine that flips some of class 1 to 0."""
    target = np.repeat(np.array([0, 1], np.uint8), 5000).reshape(100, 100)
    labels = target.copy()
    labels.ravel()[5000 : 5000 + flipped] = 0
    colors = ((0, 0, 0), (1, 1, 1))
    results = {}
    for name, arithmetic, answer in (("pytorch", "fp32", target), ("here", computes, labels)):
        comparison = verify.Comparison(ConfusionMatrix(ClassSet(("a", "b"), colors)), arithmetic)
        comparison.add("frame", np.zeros((100, 100, 3), np.uint8), target, answer)
        if labelled:
            comparison.confusion.update(target, answer)
        results[name] = comparison
    return results


def test_coarse_arithmetic_is_judged_by_what_it_loses() -> None:
    """3 % of the pixels flipped are 5.8 points of mIoU here."""
    verify.require(one_answer("bf16", 300), "fp16", verify.Budget(miou=5.9, worst=None))
    with pytest.raises(GateError, match=r"here, which computes in bf16, loses 5\.8\d points"):
        verify.require(one_answer("bf16", 300), "fp16", verify.Budget(miou=5.8, worst=None))
    with pytest.raises(GateError, match=r"97\.000 % .* for bf16 is 98\.0 %"):
        verify.require(one_answer("bf16", 300, labelled=False), "fp16", verify.Budget(None, None))
    with pytest.raises(GateError, match=r"97\.000 % .* for fp16 is 99\.5 %"):
        verify.require(one_answer("fp32", 300), "fp16", verify.Budget(None, None))
    verify.require(one_answer("int8", 300, labelled=False), "int8", verify.Budget(0.0, 0.0))


def test_a_full_disk_leaves_no_half_bundle(
    trained_run: Path, blocks: Path, export_again: Callable[[Export], Manifest], tiny_disk: Path
) -> None:
    with pytest.raises(OSError, match="No space left"):
        export_again(Export(trained_run, data=blocks, out=tiny_disk / "bundles"))
    assert not list((tiny_disk / "bundles").iterdir())


def test_existing_bundles_and_other_folders_are_safe(
    exported: Path, trained_run: Path, blocks: Path, tmp_path: Path
) -> None:
    config = Export(trained_run, data=blocks, out=exported, name="tiny")
    with pytest.raises(OutputError, match="exists; --force replaces it"):
        main(config)
    (tmp_path / "tiny-fp32").mkdir()
    (tmp_path / "tiny-fp32" / "thesis.txt").touch()
    with pytest.raises(OutputError, match=r"holds no manifest\.json: choose another place or name"):
        main(replace(config, out=tmp_path, force=True))
    assert (tmp_path / "tiny-fp32" / "thesis.txt").exists()


@pytest.mark.parametrize("change", [{"size": (8, 8)}, {"batch": 0}, {"frames": 0}])
def test_senseless_settings_are_named(change: dict) -> None:
    with pytest.raises(HedgeError, match=f"--{next(iter(change))}"):
        Export(**change)


def test_a_network_that_knows_no_data_draws_none_that_cannot_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the shipped one: streets of other classes were drawn for half a minute, to be refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CITYSCAPES_DATASET", raising=False)
    model = ModelConfig("mobilenet_v2", len(CITYSCAPES))
    checkpoint = Checkpoint(TrainConfig(), model, CITYSCAPES, (64, 64), {}, 1, 1, 0.5)
    assert Trained(checkpoint).index(None, "val") is None
    with pytest.raises(HedgeError, match="drawn streets have other classes; --data"):
        evaluation_index(checkpoint, None, "val")
    assert not list(tmp_path.iterdir())


def test_a_mean_of_pixels_in_0_to_255_is_named() -> None:
    """As configs of MMSegmentation have it: the network would see nothing but black."""
    with pytest.raises(HedgeError, match=r"--mean 123\.675: of colours in 0\.\.1; divide"):
        Export(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
