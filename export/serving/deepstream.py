"""A bundle → a model for NVIDIA DeepStream: its graph as Gst-nvinfer runs one, and the settings.

nvinfer gives float32 planes of the frame, resized to the graph's size, and takes the first output
for (C, h, w) float32 whose largest value above a threshold, and above -1, is a pixel's class. So
the graph takes planes where the bundle's takes a frame, and answers the softmax of its scores, by
which no pixel is left without a class. They have half the network's size: nvinfer copies all of
them to the host and compares them there one by one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.staging import staged
from runtime import cli
from runtime.bundle.manifest import FILE_NAME, Manifest, TensorSpec
from runtime.errors import HedgeError

CONFIG, GRAPH, LABELS = "config_infer.txt", "model.onnx", "labels.txt"
OUTPUT = "probabilities"
_MODES = {"fp32": 0, "int8": 1, "fp16": 2}  # nvinfer's network-mode
_PLANES = [0, 3, 1, 2]  # what the bundle's graph makes of a frame first


def write(bundle: Path, folder: Path, force: bool) -> list[Path]:
    """Write graph, settings, class names and manifest into ``folder``, and name them.

    Raises HedgeError where the bundle is damaged or tells no scores, before anything is written,
    and OutputError where the folder is there and ``force`` is not given.
    """
    manifest = Manifest.load(bundle)
    if manifest.logits is None:
        raise HedgeError(
            f"{bundle}: answers labels without scores, which DeepStream needs; export it again"
        )
    model = nvinfer_graph(onnx.load(bundle / manifest.graph("tensorrt")), manifest)
    with staged(folder, force, CONFIG) as place:
        onnx.save(model, place / GRAPH)
        shutil.copyfile(bundle / FILE_NAME, place / FILE_NAME)  # the whole passport
        (place / LABELS).write_text(
            "".join(f"{name}\n" for name in manifest.classes.names), "utf-8"
        )
        (place / CONFIG).write_text(config_text(manifest), "utf-8")
    if manifest.precision == "int8":
        cli.say(
            f"{folder}: nvinfer builds no INT8 engine of a graph that carries its own scales; on "
            f"the target: trtexec --onnx={GRAPH} --stronglyTyped --saveEngine={_engine(manifest)}",
            cli.err,
        )
    return [folder / name for name in (GRAPH, CONFIG, LABELS, FILE_NAME)]


def nvinfer_graph(model: onnx.ModelProto, manifest: Manifest) -> onnx.ModelProto:
    """(N, 3, H, W) float32 BGR in 0..255 → (N, C, h, w) float32 probabilities; changes ``model``.

    h, w: twice those of the scores, where the labels have as many.
    model: a graph of ours, (N, H, W, 3) uint8 → labels and scores.
    """
    graph, logits = model.graph, _scores(manifest)
    readers = {node.input[0]: node for node in graph.node if node.op_type in ("Cast", "Transpose")}
    at = manifest.input.name
    while at in readers and readers[at].op_type == "Cast":
        at = readers[at].output[0]
    turn = readers.get(at)
    if turn is None or list(helper.get_node_attr_value(turn, "perm")) != _PLANES:
        raise HedgeError(f"{manifest.name}: its graph reads no frame as ours do; export it again")
    for node in graph.node:
        node.input[:] = [at if name == turn.output[0] else name for name in node.input]
    graph.node.remove(turn)
    shape = _shape(manifest)
    graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), "nvinfer_shape"))
    larger = helper.make_node(
        "Resize",
        [logits.name, "", "", "nvinfer_shape"],
        ["larger"],
        "larger",
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    graph.node.extend([larger, helper.make_node("Softmax", ["larger"], [OUTPUT], OUTPUT, axis=1)])
    batch, height, width, planes = manifest.input.shape
    _border(graph.input, manifest.input.name, (batch, planes, height, width))
    _border(graph.output, OUTPUT, shape)
    _prune(graph)
    del graph.value_info[:]  # shapes of tensors that no longer are
    onnx.checker.check_model(model, full_check=True)
    return model


def config_text(manifest: Manifest) -> str:
    """The settings of Gst-nvinfer, as GLib's key files have them."""
    batch, height, width, planes = manifest.input.shape
    rows = {
        "gpu-id": 0,
        "gie-unique-id": 1,
        "process-mode": 1,  # whole frames
        "onnx-file": GRAPH,
        "model-engine-file": _engine(manifest),
        "labelfile-path": LABELS,
        "batch-size": batch,
        "network-mode": _MODES[manifest.precision],
        "network-type": 2,  # semantic segmentation
        "num-detected-classes": len(manifest.classes),
        "output-blob-names": OUTPUT,
        "segmentation-output-order": 0,  # (C, h, w)
        "segmentation-threshold": "0.0",
        "infer-dims": f"{planes};{height};{width}",
        "network-input-order": 0,  # planes
        "model-color-format": 1,  # BGR
        "net-scale-factor": "1.0",  # mean and deviation are in the graph
        "maintain-aspect-ratio": 0,
        "scaling-filter": 1,  # bilinear
    }
    return "[property]\n" + "".join(f"{key}={value}\n" for key, value in rows.items())


def _engine(manifest: Manifest) -> str:
    """As nvinfer names the engine that it builds of the graph."""
    return f"{GRAPH}_b{manifest.input.shape[0]}_gpu0_{manifest.precision}.engine"


def _scores(manifest: Manifest) -> TensorSpec:
    assert manifest.logits is not None
    return manifest.logits


def _shape(manifest: Manifest) -> tuple[int, ...]:
    """(N, C, h, w) of the probabilities."""
    batch, classes, *sides = _scores(manifest).shape
    largest = manifest.output.shape[1:]
    return batch, classes, *(min(2 * a, b) for a, b in zip(sides, largest, strict=True))


def _border(values: object, name: str, shape: tuple[int, ...]) -> None:
    """Let float32 ``name`` be the only input, or the only output."""
    del values[:]  # type: ignore[attr-defined]
    values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))  # type: ignore[attr-defined]


def _prune(graph: onnx.GraphProto) -> None:
    """Take out what no output depends on."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):  # sorted: what a node reads stands before it
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    constants = [value for value in graph.initializer if value.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
