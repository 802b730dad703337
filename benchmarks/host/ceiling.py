"""What this machine's CPU reaches at best: GFLOP/s of large 3×3 convolutions, by arithmetic.

``python -m benchmarks.host.ceiling THREADS`` prints them as JSON. Four convolutions of 256
channels at 64×64 in OpenVINO: large enough that nothing beside the arithmetic counts, small enough
to stay in the cache. The best run of a second counts, for a ceiling is what can be reached.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import msgspec
import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper
from openvino import properties
from openvino.properties import hint

from runtime.backends.ov import core

CHANNELS, SIDE, LAYERS = 256, 64, 4
FLOPS = 2 * LAYERS * 9 * CHANNELS**2 * SIDE**2  # of one run
SECONDS = 1.0  # for each arithmetic


def measure(threads: int) -> dict[str, float]:
    """GFLOP/s by "fp32", "bf16", "fp16", "int8"; without those that this CPU does not compute."""
    able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    kinds = {"FP32": openvino.Type.f32, "BF16": openvino.Type.bf16, "FP16": openvino.Type.f16}
    found = {
        name.lower(): _gflops(convolutions(quantised=False), kind, threads)
        for name, kind in kinds.items()
        if name in able
    }
    if "INT8" in able:
        found["int8"] = _gflops(convolutions(quantised=True), openvino.Type.f32, threads)
    return found


def _gflops(graph: onnx.ModelProto, kind: openvino.Type, threads: int) -> float:
    config: dict[str, object] = {
        hint.performance_mode(): hint.PerformanceMode.LATENCY,
        hint.inference_precision(): kind,
    }
    if threads:
        config[properties.inference_num_threads()] = threads
    model = core().compile_model(core().read_model(graph.SerializeToString()), "CPU", config)
    request = model.create_infer_request()
    return FLOPS / _best(lambda: (request.start_async(), request.wait())) / 1e9


def _best(run: Callable[[], object]) -> float:
    """Seconds of the fastest run of a second's, at least five."""
    times: list[float] = []
    while len(times) < 5 or sum(times) < SECONDS:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def convolutions(quantised: bool) -> onnx.ModelProto:
    """uint8 image-like values → convolutions with ReLU → one value a channel."""
    shape = (1, CHANNELS, SIDE, SIDE)
    weights = np.random.default_rng(0).integers(-127, 127, (CHANNELS, CHANNELS, 3, 3), np.int8)
    scale, small = np.float32(0.02), np.float32(1e-4)
    constants = {"scale": scale, "zero": np.uint8(0), "small": small, "still": np.int8(0)}
    constants["weights"] = weights if quantised else weights.astype(np.float32) * small
    nodes = [
        helper.make_node("Cast", ["frame"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["x0"]),
    ]
    for layer in range(LAYERS):
        nodes += _layer(layer, quantised)
    nodes.append(helper.make_node("GlobalAveragePool", [f"x{LAYERS}"], ["answer"]))
    graph = helper.make_graph(
        nodes, "convolutions",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, (1, CHANNELS, 1, 1))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return model


def _layer(number: int, quantised: bool) -> list[onnx.NodeProto]:
    here, there = f"x{number}", f"x{number + 1}"
    data, weights, nodes = here, "weights", []
    if quantised:
        data, weights = f"q{number}", f"w{number}"
        nodes = [
            helper.make_node("QuantizeLinear", [here, "scale", "zero"], [f"c{number}"]),
            helper.make_node("DequantizeLinear", [f"c{number}", "scale", "zero"], [data]),
            helper.make_node("DequantizeLinear", ["weights", "small", "still"], [weights]),
        ]
    return [
        *nodes,
        helper.make_node("Conv", [data, weights], [f"s{number}"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", [f"s{number}"], [there]),
    ]


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(measure(int(sys.argv[1]))) + b"\n")
