"""What is no network of images, or cannot be built around: a line that names node or tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.config import Export
from export.foreign import surround
from export.foreign.network import of_file
from export.foreign.opened import Opened
from export.fp16 import to_fp16
from export.int8 import qdq
from export.int8.ranges import observe
from runtime.errors import HedgeError
from tests.export.foreign.networks import SIDES, opened, write_network

CUSTOM = helper.make_node("DeformConv2d", ["logits"], ["odd"], name="deform_7", domain="mmcv")
COUNTED = helper.make_node("NonZero", ["logits"], ["odd"], name="found")
UPPER = helper.make_node("Relu", ["logits"], ["aux"], name="aux")


@pytest.mark.parametrize(
    ("network", "asked", "problem"),
    [
        ({"more": [CUSTOM]}, {}, r'node "deform_7" is a mmcv\.DeformConv2d, .* in no engine'),
        ({"more": [COUNTED]}, {}, r'node "found" \(NonZero\): how large its answer is depends'),
        ({"channels": 4}, {}, r"\(1, 4, 32, 48\): 3 colours are wanted"),
        ({"sides": ("h", "w")}, {}, r"images of any size; say which: --size H W"),
        ({}, {"size": (48, 64)}, r"images of 32×48 alone, not 48×64"),
        ({}, {"batch": 2}, r"takes 1 images at once, not 2: --batch 1"),
        ({"more": [UPPER], "outputs": ["aux"]}, {}, r"several outputs, .*logits.*aux.* --output"),
        ({}, {"output": "aux"}, r"has no output aux; it has logits"),
        ({}, {"classes": ("road", "car")}, r"scores 4 classes, but 2 are named"),
        ({"ends": ["labels"]}, {"classes": ("road",)}, r"scores 4 classes, but 1 are named"),
        ({}, {"classes": ("a,b,a,c",)}, r"two classes share a name"),
    ],
)
def test_refusals_name_what_is_in_the_way(
    network: dict, asked: dict, problem: str, tmp_path: Path
) -> None:
    path = write_network(tmp_path / "net.onnx", **network)
    if network.get("more") and "outputs" not in network:
        model = onnx.load(path)  # its last node would go, were it of no use
        model.graph.output.add().CopyFrom(helper.make_tensor_value_info("odd", 7, [None] * 2))
        onnx.save(model, path)
        asked = {"output": "logits"}
    with pytest.raises(HedgeError, match=problem) as caught:
        opened(Export(path, **asked))
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"<html>404</html>")
    with pytest.raises(HedgeError, match=r"net\.onnx: not an ONNX file"):
        of_file(tmp_path / "net.onnx", None)
    with pytest.raises(HedgeError, match=r"none\.onnx: not an ONNX file"):
        of_file(tmp_path / "none.onnx", None)


def test_weights_beside_the_file_are_named_where_they_lack(tmp_path: Path) -> None:
    """PyTorch writes them so; who copies the graph alone has an ONNX file all the same."""
    path = write_network(tmp_path / "net.onnx")
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    assert opened(Export(path)).border.classes == 4
    (tmp_path / "w.data").unlink()
    with pytest.raises(HedgeError, match=r"net\.onnx: its weights lie in .*, w\.data, which"):
        of_file(path, None)


def test_more_weights_than_a_file_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_network(tmp_path / "net.onnx")
    monkeypatch.setattr("export.foreign.opened.LARGEST", 100)
    with pytest.raises(HedgeError, match=r"net\.onnx: has weights of .* GB, and a graph of one"):
        of_file(path, None)


def test_a_network_of_objects_is_told_by_its_task(tmp_path: Path) -> None:
    """A YOLO's masks are made of two answers; --output would take the prototypes for scores."""
    path = write_network(tmp_path / "net.onnx", more=[UPPER], outputs=["aux"])
    for task in ("semantic", "segment"):
        model = onnx.load(path)
        helper.set_model_props(model, {"task": task, "stride": "32"})
        onnx.save(model, path)
        if task == "semantic":
            assert of_file(path, "aux")
    with pytest.raises(HedgeError, match=r'task "segment" .* not answer which class'):
        of_file(path, "aux")


def test_classes_are_numbered_where_nobody_names_them(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx")
    (tmp_path / "classes.json").write_text('["road", "car", "sky", "tree"]')
    found = opened(Export(path)).facts.classes
    assert found.names == ("class 0", "class 1", "class 2", "class 3")
    listed = Export(path, classes=(str(tmp_path / "classes.json"),))
    assert opened(listed).facts.classes.names == ("road", "car", "sky", "tree")
    missing = Export(
        write_network(path, ends=["labels", "floats"]), classes=(str(tmp_path / "clases.json"),)
    )
    with pytest.raises(HedgeError, match=r"clases\.json: not a class list: .*No such file"):
        opened(missing)


def test_one_of_several_outputs_is_taken(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx", more=[UPPER], outputs=["aux"])
    assert opened(Export(path, output="aux")).border.output == "aux"


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("sides", "classes"), [((45, 80), 13), ((64, 64), 32)])
def test_classes_are_no_side_of_the_map(
    sides: tuple[int, int], classes: int, last: bool, tmp_path: Path
) -> None:
    """(1, 13, 23, 40) of 45×80 pixels could be a map of 13×23, as sides are rounded."""
    path = write_network(tmp_path / "net.onnx", sides=sides, classes=classes, last=last)
    border = opened(Export(path)).border
    assert (border.classes, border.last) == (classes, last)
    assert border.answer == tuple(-(-side // 2) for side in sides)


@pytest.mark.parametrize("ends", [[], ["labels"]])
def test_answers_of_one_image_are_not_those_of_a_batch(ends: list[str], tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx", batch="n", ends=ends)
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "answer"
    shape = np.array([1, -1, SIDES[1] // 2] if ends else [1, -1, *(s // 2 for s in SIDES)])
    model.graph.initializer.append(numpy_helper.from_array(shape, "one"))
    model.graph.node.append(helper.make_node("Reshape", ["answer", "one"], ["logits"]))
    onnx.save(model, path)
    assert len(opened(Export(path, classes=("a,b,c,d",))).facts.classes) == 4
    with pytest.raises(HedgeError, match=r"is of one image, though 2 are given: --batch 1"):
        opened(Export(path, classes=("a,b,c,d",), batch=2))


def test_a_file_of_several_images_is_calibrated_with_each_as_often(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(256, size=(2, *SIDES, 3), dtype=np.uint8)
    ranges = []
    for batch in (1, 4):
        path = write_network(tmp_path / f"{batch}.onnx", batch=batch)
        opened(Export(path, batch=batch)).write(SIDES, SIDES, 1, tmp_path / "whole.onnx")
        found = observe(tmp_path / "whole.onnx", frames)
        ranges.append([histogram.range("minmax") for histogram in found.values()])
    assert ranges[0] and np.allclose(*ranges)


def test_a_graph_that_does_not_check_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shapes and types that do not fit are another error of the checker's than the rest."""

    def spoiled(model: ir.Model, *given: object) -> object:
        scores = surround.surround(model, *given)
        [best] = [node for node in model.graph if node.op_type == "ArgMax"]
        best.attributes["axis"] = ir.AttrInt64("axis", 7)
        return scores

    monkeypatch.setattr("export.foreign.network.surround", spoiled)
    foreign = opened(Export(write_network(tmp_path / "net.onnx")))
    with pytest.raises(HedgeError, match=r"net\.onnx: not to be built around: .*ArgMax") as caught:
        foreign.write(SIDES, SIDES, 1, tmp_path / "whole.onnx")
    assert "\n" not in str(caught.value)


def test_nodes_need_no_names(tmp_path: Path) -> None:
    """Constants are named after their nodes, and layers told apart by them."""
    path = write_network(tmp_path / "net.onnx", ends=["enlarged"])
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = ""
    found = Opened("net", model).static(SIDES, 1).graph
    names = [node.name for node in found]
    assert all(names) and len(set(names)) == len(names)


def test_a_file_of_fp16_inside_is_one_of_fp32(tmp_path: Path) -> None:
    """Of onnxconverter_common's keep_io_types: its layers can be INT8, and FP16 in ONNX Runtime."""
    path = write_network(tmp_path / "net.onnx", begins=["normal"])
    model = onnx.load(path)
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    graph.node[0].input[0], graph.node[-1].output[0] = "image16", "logits16"
    graph.node.insert(0, helper.make_node("Cast", ["image"], ["image16"], to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("Cast", ["logits16"], ["logits"], to=TensorProto.FLOAT))
    onnx.save(model, path)
    opened(Export(path)).write(SIDES, SIDES, 1, tmp_path / "fp32.onnx")
    assert len(qdq.layers(ir.load(tmp_path / "fp32.onnx"))) == 2
    to_fp16(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    onnxruntime.InferenceSession(tmp_path / "fp16.onnx")


def test_outputs_need_names_alone(tmp_path: Path) -> None:
    """As those are added that a network makes on its way."""
    path = write_network(tmp_path / "net.onnx", more=[UPPER])
    model = onnx.load(path)
    model.graph.output[0].ClearField("type")
    model.graph.output.add(name="aux")
    onnx.save(model, path)
    border = opened(Export(path, output="aux")).border
    assert (border.output, border.classes) == ("aux", 4)


def test_weights_that_are_inputs_too_are_weights(tmp_path: Path) -> None:
    """As PyTorch before 1.4, MXNet and Caffe2 wrote them."""
    path = write_network(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(weights.name, weights.data_type, list(weights.dims))
        for weights in model.graph.initializer
    )
    onnx.save(model, path)
    opened(Export(path)).write(SIDES, SIDES, 1, tmp_path / "whole.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "whole.onnx").graph.node]
    assert kinds.count("Conv") == 2 and "Mul" not in kinds  # factors are in the weights


def test_quantised_networks_are_taken_as_they_are(tmp_path: Path) -> None:
    """Weights are integers already: FP16 is written all the same, and INT8 has no layer to add."""
    path = write_network(tmp_path / "net.onnx")
    model = onnx.load(path)
    graph = model.graph
    for tensor in [tensor for tensor in graph.initializer if tensor.name.endswith(".weight")]:
        weights, names = numpy_helper.to_array(tensor), [f"{tensor.name}.{k}" for k in "qs"]
        scale = np.array(np.abs(weights).max() / 127, np.float32)
        for name, array in zip(names, (np.rint(weights / scale).astype("i1"), scale), strict=True):
            graph.initializer.append(numpy_helper.from_array(array, name))
        graph.node.insert(0, helper.make_node("DequantizeLinear", names, [tensor.name]))
        graph.initializer.remove(tensor)
    onnx.save(model, path)
    fp32, fp16, int8 = (tmp_path / f"{name}.onnx" for name in ("fp32", "fp16", "int8"))
    opened(Export(path)).write(SIDES, SIDES, 1, fp32)
    to_fp16(fp32, fp16)
    frames = np.zeros((1, *SIDES, 3), np.uint8)
    assert observe(fp32, frames) == {}
    qdq.quantize(fp16, int8, {}, qdq.TENSORRT, ())
    for written in (fp16, int8):
        assert onnxruntime.InferenceSession(written).run(["labels"], {"frame": frames})


def test_functions_of_the_file_are_its_operators(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx")
    model = onnx.load(path)
    body, kinds = [helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "Act", ["x"], ["y"], body, kinds))
    model.opset_import.append(helper.make_opsetid("own", 1))
    [relu] = [node for node in model.graph.node if node.op_type == "Relu"]
    relu.op_type, relu.domain = "Act", "own"
    onnx.save(model, path)
    graph = Opened.read(path).static(SIDES, 1).graph
    assert [node.op_type for node in graph] == ["Conv", "Relu", "Conv"]
