"""Real TensorRT-RTX engines of every variant and precision, built without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper

from export.__main__ import main
from export.bundle import describe, hashes
from export.config import PRECISIONS, Export, Precision
from export.fp16 import to_fp16
from export.int8 import qdq
from export.own.deploy import DeployGraph
from export.own.to_onnx import to_onnx
from export.own.trained import Trained
from runtime.backends import trt, trt_builder
from runtime.backends.trt_cache import BuildOptions, Sidecar
from runtime.bundle.manifest import MODEL, Manifest
from runtime.errors import HedgeError
from train.checkpoint import Checkpoint
from train.config import VARIANTS, BackboneName, ModelConfig, TrainConfig, VariantName
from train.models import DeepLab

RTX = "tensorrt_rtx"


@pytest.fixture
def engine(trained_run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Build the engine of a network in a precision, through the bundle that it belongs to."""
    checkpoint = Checkpoint.load(trained_run / "best.pt")

    def build(model: DeepLab, size: tuple[int, int], kind: Precision) -> Path:
        folder = tmp_path / kind
        folder.mkdir()
        if kind == "int8":  # with ranges that no image was asked for
            plain = tmp_path / "fp16" / MODEL
            ranges = dict.fromkeys(qdq.tensors(ir.load(plain)), (-4.0, 4.0))
            qdq.quantize(plain, folder / MODEL, ranges, qdq.TENSORRT, ())
        elif kind == "fp16":
            to_fp16(tmp_path / "fp32" / MODEL, folder / MODEL)
        else:
            to_onnx(DeployGraph(model, size, size), 1, folder / MODEL)
        manifest = describe(Trained(checkpoint).facts, "x", kind, 1, DeployGraph(model, size, size))
        replace(manifest, files=hashes(folder)).save(folder)
        return trt.build(folder, RTX)[0]

    return build


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_precision_of_every_variant_builds(
    variant: VariantName, engine: Callable[..., Path]
) -> None:
    torch.manual_seed(0)
    backbone: BackboneName = "mobilenet_v2" if VARIANTS[variant].hed else "resnet18"
    model = DeepLab(TrainConfig(variant=variant, backbone=backbone).model(3)).eval()
    sizes = {kind: engine(model, (64, 96), kind).stat().st_size for kind in PRECISIONS}
    assert sizes["fp16"] < sizes["fp32"], "the precision is the graph's"


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_takes_any_number_of_frames(
    variant: VariantName, trained_run: Path, tmp_path: Path
) -> None:
    """From a graph of two frames, in INT8: nothing but constants is of a fixed number any more."""
    torch.manual_seed(0)
    backbone: BackboneName = "mobilenet_v2" if VARIANTS[variant].hed else "resnet18"
    graph = DeployGraph(
        DeepLab(TrainConfig(variant=variant, backbone=backbone).model(3)), (64, 96), (72, 104)
    )
    to_onnx(graph, 2, tmp_path / "fp32.onnx")
    to_fp16(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    ranges = dict.fromkeys(qdq.tensors(ir.load(tmp_path / "fp16.onnx")), (-4.0, 4.0))
    folder = tmp_path / "bundle"
    folder.mkdir()
    qdq.quantize(tmp_path / "fp16.onnx", folder / MODEL, ranges, qdq.TENSORRT, ())
    manifest = describe(
        Trained(Checkpoint.load(trained_run / "best.pt")).facts, "x", "int8", 2, graph
    )
    replace(manifest, files=hashes(folder)).save(folder)

    parser = trt_builder.load(RTX).Builder(trt_builder.logger(RTX))
    network = trt_builder.parsed(parser, folder / MODEL, RTX)
    assert tuple(network.get_output(0).shape) == (2, 72, 104)
    trt_builder.take_up_to(5, RTX, network)
    assert tuple(network.get_output(0).shape) == (-1, 72, 104)
    for number in range(network.num_layers):
        outputs = network.get_layer(number).get_output(0)
        assert len(outputs.shape) != 4 or outputs.shape[0] != 2, network.get_layer(number).name

    (path,) = trt.build(folder, RTX, options=BuildOptions(max_batch=5))
    assert Sidecar.load(path).options.max_batch == 5
    with pytest.raises(HedgeError, match=r"--max-batch 1: .*bundle runs 2 frames at once"):
        trt.build(folder, RTX, options=BuildOptions(max_batch=1))


def test_int8_makes_the_engine_of_a_real_size_small(engine: Callable[..., Path]) -> None:
    torch.manual_seed(0)
    model = DeepLab(ModelConfig("resnet50", num_classes=3, se="sigmoid", hed="lite")).eval()
    sizes = {kind: engine(model, (512, 1024), kind).stat().st_size for kind in PRECISIONS}
    assert sizes["int8"] <= 0.4 * sizes["fp32"], sizes


ODD = {  # what lies between the frame's values and the labels' → what TensorRT calls it
    "an operator it does not know": ("'the_odd_one' (Det)", helper.make_node(
        "Det", ["values"], ["odd"], name="the_odd_one")),
    "two types in one sum": ("'the_odd_one' (Add)", helper.make_node(
        "Add", ["values", "halves"], ["odd"], name="the_odd_one")),
}  # fmt: skip


@pytest.mark.parametrize("named", ODD)
def test_what_tensorrt_refuses_is_one_line(
    named: str, bundle: Path, resign: Callable[[Path], None]
) -> None:
    called, node = ODD[named]
    nodes = [
        helper.make_node("Cast", ["frame"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["frame"], ["halves"], to=TensorProto.FLOAT16),
        node,
        helper.make_node("Cast", ["odd"], ["labels"], to=TensorProto.UINT8),
    ]
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, (1, 24, 32, 3))
    labels = helper.make_tensor_value_info("labels", TensorProto.UINT8, (1, 24, 32))
    odd = helper.make_graph(nodes, "odd", [frame], [labels])
    onnx.save(helper.make_model(odd, opset_imports=[helper.make_opsetid("", 17)]), bundle / MODEL)
    resign(bundle)
    with pytest.raises(HedgeError) as caught:
        trt.build(bundle, RTX)
    message = str(caught.value)
    assert f"model.onnx: tensorrt_rtx refuses node {called}: " in message
    assert "\n" not in message and not (bundle / "engines").exists()


def test_the_command_builds_for_other_machines(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(Export(bundle, engine="tensorrt_rtx", target="sm86,sm89,sm120"))
    printed = capsys.readouterr().out
    for target in ("sm86", "sm89", "sm120"):
        assert f"{target}.engine" in printed
    assert len(list((bundle / "engines").glob("*.engine"))) == 3
    Manifest.load(bundle)  # engines are no part of what it seals
    with pytest.raises(HedgeError, match="--target sm99: tensorrt_rtx builds for sm75"):
        main(Export(bundle, engine="tensorrt_rtx", target="sm99"))
    with pytest.raises(HedgeError, match="--target is for"):
        Export(bundle, engine="tensorrt", target="sm86")


def test_the_command_passes_on_how_to_build(bundle: Path) -> None:
    main(Export(bundle, engine="tensorrt_rtx", workspace=64, optimization_level=1, max_batch=4))
    (path,) = (bundle / "engines").glob("*.engine")
    assert Sidecar.load(path).options == BuildOptions(workspace_mib=64, level=1, max_batch=4)
    with pytest.raises(HedgeError, match="--max-batch is for --engine"):
        Export(bundle, max_batch=4)
    with pytest.raises(HedgeError, match="--max-batch 0: give a number from 1"):
        Export(bundle, max_batch=0, engine="tensorrt")
