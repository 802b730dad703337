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
from export.network import Facts
from export.own.deploy import DeployGraph
from export.own.to_onnx import to_onnx
from export.own.trained import Trained
from runtime.backends import trt, trt_builder
from runtime.backends.trt_cache import BuildOptions, Sidecar
from runtime.bundle.manifest import MODEL, Manifest
from runtime.errors import HedgeError
from train.checkpoint import Checkpoint
from train.config import VARIANTS, ModelConfig, TrainConfig
from train.models import DeepLab

RTX = "tensorrt_rtx"


def bundles(graph: DeployGraph, batch: int, out: Path, facts: Facts) -> dict[Precision, Path]:
    """A bundle of the network in each precision; INT8 with ranges that no image was asked for."""
    folders: dict[Precision, Path] = {kind: out / kind for kind in PRECISIONS}
    for kind, folder in folders.items():
        folder.mkdir()
        if kind == "int8":
            plain = out / "fp16" / MODEL
            ranges = dict.fromkeys(qdq.tensors(ir.load(plain)), (-4.0, 4.0))
            qdq.quantize(plain, folder / MODEL, ranges, qdq.TENSORRT, ())
        elif kind == "fp16":
            to_fp16(out / "fp32" / MODEL, folder / MODEL)
        else:
            to_onnx(graph, batch, folder / MODEL)
        manifest = describe(facts, "x", kind, batch, graph)
        replace(manifest, files=hashes(folder)).save(folder)
    return folders


def sizes(folders: dict[Precision, Path]) -> dict[Precision, int]:
    """Bytes of the engines that the bundles build."""
    return {kind: trt.build(folder, RTX)[0].stat().st_size for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def facts(trained_run: Path) -> Facts:
    """Of any network: engines do not depend on them."""
    return Trained(Checkpoint.load(trained_run / "best.pt")).facts


@pytest.fixture(scope="module", params=VARIANTS)
def variant(
    request: pytest.FixtureRequest, facts: Facts, tmp_path_factory: pytest.TempPathFactory
) -> dict[Precision, Path]:
    """The bundles of a variant that takes two frames at once, of another size than its own."""
    torch.manual_seed(0)
    backbone = "mobilenet_v2" if VARIANTS[request.param].hed else "timm/test_resnet"
    model = DeepLab(TrainConfig(variant=request.param, backbone=backbone).model(3))
    out = tmp_path_factory.mktemp("bundles")
    return bundles(DeployGraph(model, (64, 96), (72, 104)), 2, out, facts)


def test_every_precision_of_every_variant_builds(variant: dict[Precision, Path]) -> None:
    built = sizes(variant)
    assert built["fp16"] < built["fp32"], "the precision is the graph's"


def test_every_variant_takes_any_number_of_frames(variant: dict[Precision, Path]) -> None:
    """From a graph of two frames, in INT8: nothing but constants is of a fixed number any more."""
    folder = variant["int8"]
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
    with pytest.raises(HedgeError, match=r"--max-batch 1: .*int8 runs 2 frames at once"):
        trt.build(folder, RTX, options=BuildOptions(max_batch=1))


def test_int8_makes_the_engine_of_a_real_size_small(facts: Facts, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DeepLab(ModelConfig("resnet50", num_classes=3, se="sigmoid", hed="lite"))
    built = sizes(bundles(DeployGraph(model, (512, 1024), (512, 1024)), 1, tmp_path, facts))
    assert built["int8"] <= 0.4 * built["fp32"], built


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
