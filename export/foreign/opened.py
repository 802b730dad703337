"""An ONNX file of somebody else: what it takes and answers, found and checked, its shapes fixed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import onnx.inliner
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, version_converter

from export.foreign import ends
from export.foreign.rewrites import rewrite
from export.own.to_onnx import OPSET
from runtime.errors import HedgeError, one_line

COLORS = 3
LARGEST = 1 << 31  # bytes, protobuf's own bound
PLACED = 11  # the first opset whose Resize says where pixels lie; before, it is asymmetric
STANDARD = ("", "ai.onnx")
_WHOLE = {ir.DataType.BOOL, ir.DataType.UINT8, ir.DataType.INT32, ir.DataType.INT64}
Size = tuple[int, int]


@dataclass(frozen=True)
class Border:
    """What a network takes and answers.

    input, output: names of its tensors; size: (H, W) of its images; planes: whether they are
    (N, 3, H, W), otherwise (N, H, W, 3); labels: whether it answers those; classes: how many it
    scores, None where that is not to be seen; last: whether scores are (N, H, W, C); answer: (H, W)
    of scores or labels; threshold: where it gives one score a pixel, above which that is class 1 of
    two, else None.
    """

    input: str
    output: str
    size: Size
    planes: bool
    labels: bool
    classes: int | None
    last: bool
    answer: Size
    threshold: float | None = None


class Opened:
    """An ONNX graph; called: what messages call it.

    Raises HedgeError that names the node, or the tensor, that stands in the way, and the fix.
    """

    def __init__(self, called: str, model: onnx.ModelProto) -> None:
        size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
        if size >= LARGEST:
            raise HedgeError(
                f"{called}: has weights of {size / 1e9:.1f} GB, and a graph of one file holds at "
                "most 2: export a smaller network"
            )
        _keep_constants(model)
        # Outputs that somebody added by name alone: engines need no more, the checker does.
        if not all(value.type.tensor_type.HasField("shape") for value in model.graph.output):
            model = onnx.shape_inference.infer_shapes(model)
        self.called, self.model = called, model
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            raise HedgeError(f"{called}: not valid ONNX: {one_line(error)}") from error
        if model.functions:  # of the file's own, as PyTorch wrote operators before 2.7
            self.model = onnx.inliner.inline_local_functions(model)
        self._check_operators()
        self._input = self._only_input()
        self.planes, self._side = self._layout()

    @classmethod
    def read(cls, path: Path) -> Opened:
        """The graph of a file, with the weights that lie beside it."""
        try:
            model = onnx.load(str(path), load_external_data=False)
        except Exception as error:  # protobuf's and the file system's own
            raise HedgeError(f"{path}: not an ONNX file: {one_line(error)}") from error
        try:
            onnx.load_external_data_for_model(model, str(path.parent))
        except Exception as error:  # the checker's and the file system's own
            raise HedgeError(
                f"{path}: its weights lie in files of their own, {_files_of_weights(model)}, which "
                f"belong beside it: {one_line(error)}"
            ) from error
        return cls(str(path), model)

    def size(self, asked: Size | None) -> Size:
        """(H, W) of the images: the file's own, or the one that is asked for."""
        first = 2 if self.planes else 1
        own = self._side[first : first + 2]
        height, width = (side or want for side, want in zip(own, asked or (0, 0), strict=True))
        found = (height, width)
        if 0 in found:
            raise HedgeError(f"{self.called}: takes images of any size; say which: --size H W")
        if asked is not None and found != asked:
            raise HedgeError(
                f"{self.called}: takes images of {found[0]}×{found[1]} alone, not {asked[0]}×"
                f"{asked[1]}: leave --size away, or export it with dynamic axes (--frame-size H W "
                "is what the camera gives)"
            )
        return found

    @property
    def only(self) -> int:
        """How many images it takes at once, 0 where that is free."""
        return self._side[0]

    def static(self, size: Size, batch: int) -> ir.Model:
        """The file's graph for ``batch`` images of ``size``: all shapes known, constants folded."""
        if self.only not in (0, batch):
            raise HedgeError(
                f"{self.called}: takes {self.only} images at once, not {batch}: --batch "
                f"{self.only}, or export it with a dynamic first axis"
            )
        proto = onnx.ModelProto()
        proto.CopyFrom(self.model)
        del proto.graph.value_info[:]
        shape = (batch, COLORS, *size) if self.planes else (batch, *size, COLORS)
        for value in proto.graph.input:
            if value.name == self._input.name:
                _set_shape(value, shape)
        for value in proto.graph.output:
            value.type.tensor_type.ClearField("shape")
        if self._opset() < OPSET:
            proto = self._converted(proto)
        known = {name for node in proto.graph.node for name in (*node.input, *node.output)}
        proto = self._simplified(proto)
        # A CPU computes FP16 in FP32: casts stand behind such weights, which are folded only now.
        if any(tensor.data_type == TensorProto.FLOAT16 for tensor in proto.graph.initializer):
            proto = self._simplified(proto)
        model = ir.from_proto(proto)
        for node in model.graph:  # constants are named after their nodes, which need no names
            node.name = node.name or f"{node.op_type}_{node.outputs[0].name}"
        for value in [*model.graph.initializers.values(), *_answers(model.graph)]:
            if value.name and value.name not in known:  # ONNX Runtime's: it would give it again
                value.name = f"basic.{value.name}"
        rewrite(model)
        self._check_shapes(model)
        return model

    def border(self, size: Size, batch: int, output: str | None) -> Border:
        """What the network answers to images of ``size``; output: which of several tensors."""
        graph = self.static(size, batch).graph
        value = self._output(graph, output)
        shape = tuple(value.shape.numpy()) if value.shape else ()
        found = f'{self.called}: its output "{value.name}", {value.dtype} {shape},'
        if len(shape) > 2 and shape[0] == 1 < batch:  # a Reshape of the author's, to one image
            raise HedgeError(
                f"{found} is of one image, though {batch} are given: --batch 1, or export it "
                "without a first axis of 1 within"
            )
        count = ends.scored(value)
        if value.dtype in _WHOLE or count is not None:
            sides = [side for side in shape[1:] if side != 1]
            if len(sides) != 2:
                raise HedgeError(f"{found} is no label for each pixel: (N, H, W) is wanted")
            return self._bordered(value, size, count, (sides[0], sides[1]), labels=True)
        if value.dtype != ir.DataType.FLOAT or len(shape) != 4:
            raise HedgeError(
                f"{found} is neither scores, float32 (N, C, h, w), nor whole numbers (N, H, W)"
            )
        last = _is_last(shape, size, self.planes)
        classes, height, width = (shape[3], *shape[1:3]) if last else shape[1:]
        border = self._bordered(value, size, classes, (height, width), last=last)
        if classes > 1:
            return border
        return replace(border, classes=2, threshold=ends.threshold(value))

    def _bordered(
        self, value: ir.Value, size: Size, classes: int | None, answer: Size,
        labels: bool = False, last: bool = False,
    ) -> Border:  # fmt: skip
        name = self._input.name
        return Border(name, str(value.name), size, self.planes, labels, classes, last, answer)

    def _output(self, graph: ir.Graph, asked: str | None) -> ir.Value:
        outputs = {str(value.name): value for value in graph.outputs}
        listed = ", ".join(
            f"{name} {value.dtype} {tuple(value.shape.numpy()) if value.shape else ''}"
            for name, value in outputs.items()
        )
        if asked is not None and asked not in outputs:
            raise HedgeError(f"{self.called}: has no output {asked}; it has {listed}")
        if asked is None and len(outputs) > 1:
            raise HedgeError(
                f"{self.called}: has several outputs, {listed}; say which: --output NAME"
            )
        return outputs[asked] if asked else next(iter(outputs.values()))

    def _only_input(self) -> onnx.ValueInfoProto:
        inputs = self.model.graph.input
        if len(inputs) != 1:
            names = ", ".join(value.name for value in inputs) or "none"
            raise HedgeError(
                f"{self.called}: takes {len(inputs)} inputs ({names}), not an image alone"
            )
        return inputs[0]

    def _layout(self) -> tuple[bool, tuple[int, ...]]:
        """Whether the input has planes, and its sides, 0 where they are free."""
        tensor = self._input.type.tensor_type
        found = f'{self.called}: its input "{self._input.name}"'
        if tensor.elem_type != TensorProto.FLOAT:
            kind = TensorProto.DataType.Name(tensor.elem_type)
            raise HedgeError(f"{found} is {kind}; export it in FP32, with a float32 image")
        sides = tuple(max(side.dim_value, 0) for side in tensor.shape.dim)  # free ones may be -1
        if len(sides) != 4:
            raise HedgeError(f"{found} has {len(sides)} axes; an image has (N, 3, H, W)")
        if sides[1] in (0, COLORS) and not (sides[1] == 0 and sides[3] == COLORS):
            return True, sides
        if sides[3] == COLORS:
            return False, sides
        raise HedgeError(f"{found} is {sides}: {COLORS} colours are wanted, as (N, 3, H, W)")

    def _check_operators(self) -> None:
        opset = self._opset()
        for node in self.model.graph.node:
            if node.domain not in STANDARD or not onnx.defs.has(node.op_type, opset):
                kind = f"{node.domain}.{node.op_type}".lstrip(".")
                raise HedgeError(
                    f"{self.called}: node {_named(node)} is a {kind}, which is none of ONNX's "
                    "operators and in no engine: export the network without it"
                )

    def _opset(self) -> int:
        versions = [o.version for o in self.model.opset_import if o.domain in STANDARD]
        return max(versions, default=1)

    def _converted(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        try:
            proto = version_converter.convert_version(proto, OPSET)
        except Exception as error:  # the converter's own, which names the operator
            raise HedgeError(
                f"{self.called}: of opset {self._opset()}, and not to be converted to {OPSET} "
                f"({one_line(error)}); export it with opset {OPSET} or later"
            ) from error
        if self._opset() < PLACED:  # which the converter forgets
            for node in proto.graph.node:
                if node.op_type == "Resize":
                    way = helper.make_attribute("coordinate_transformation_mode", "asymmetric")
                    node.attribute.extend([way, helper.make_attribute("nearest_mode", "floor")])
        return proto

    def _simplified(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """What ONNX Runtime makes of it with the rewrites that leave it standard ONNX."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        with tempfile.TemporaryDirectory() as folder:
            options.optimized_model_filepath = str(Path(folder) / "basic.onnx")
            try:
                onnxruntime.InferenceSession(
                    proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # the library raises a dozen types with no common base
                raise HedgeError(
                    f"{self.called}: ONNX Runtime refuses it: {one_line(error)}"
                ) from error
            return onnx.load(options.optimized_model_filepath)

    def _check_shapes(self, model: ir.Model) -> None:
        for node in model.graph:
            name = f'node "{node.name}" ({node.op_type})'
            if node.domain not in STANDARD:
                raise HedgeError(f"{self.called}: {name} is none of ONNX's own; export without it")
            if any(
                attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()
            ):
                raise HedgeError(
                    f"{self.called}: {name} chooses what to compute as it runs, which no engine of "
                    "ours builds: export the network without it (torch.onnx.export, dynamo=True)"
                )
            for value in node.outputs:
                if value.name and (value.shape is None or not value.shape.is_static()):
                    raise HedgeError(
                        f"{self.called}: {name}: how large its answer is depends on the image; "
                        "export the network without it"
                    )


def _answers(graph: ir.Graph) -> list[ir.Value]:
    return [value for node in graph for value in node.outputs]


def _files_of_weights(model: onnx.ModelProto) -> str:
    """Names of the files that hold weights outside of the graph's own."""
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    return ", ".join(sorted({entry.value for entry in entries if entry.key == "location"}))


def _keep_constants(model: onnx.ModelProto) -> None:
    """Weights that are inputs too, as all were before version 4 of the format, are weights alone:
    else whoever runs the network might give others, and nothing is folded."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)


def _named(node: onnx.NodeProto) -> str:
    return f'"{node.name or node.output[0]}"'


def _set_shape(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    value.type.tensor_type.ClearField("shape")
    for side in shape:
        value.type.tensor_type.shape.dim.add().dim_value = side


def _is_last(shape: tuple[int, ...], size: Size, planes: bool) -> bool:
    """Whether (N, H, W, C) rather than (N, C, H, W): the sides of maps are as those of images.

    They are rounded, so that (1, 19, 34, 60) of 1080×1920 pixels fits both ways: then the answer is
    as the image is, in ``planes`` or not.
    """

    def fits(height: int, width: int) -> bool:
        return abs(height * size[1] - width * size[0]) <= max(size)

    alike = fits(shape[1], shape[2]) == fits(shape[2], shape[3])
    return not planes if alike else fits(shape[1], shape[2])
