"""What this machine reaches at best: GFLOP/s of large 3×3 convolutions, by arithmetic, and GB/s.

``python -m benchmarks.host.ceiling THREADS`` prints them as JSON. Four convolutions of 256
channels at 64×64 in OpenVINO: large enough that nothing beside the arithmetic counts, small enough
to stay in the cache. Memory is what an activation reads and writes that no cache can hold. The best
run of a second counts, for a ceiling is what can be reached.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import msgspec
import numpy as np
import openvino
from openvino import opset13 as ops
from openvino import properties
from openvino.properties import hint

from runtime.backends.ov import core

CHANNELS, SIDE, LAYERS = 256, 64, 4
FLOPS = 2 * LAYERS * 9 * CHANNELS**2 * SIDE**2  # of one run
SECONDS = 1.0  # for each arithmetic
FLOATS = 1 << 25  # 128 MiB that are read, and as much written


def measure(threads: int) -> dict[str, float]:
    """GFLOP/s by "fp32", "bf16", "fp16", "int8", without those that this CPU does not compute, and
    GB/s as "memory"."""
    able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    kinds = {"FP32": openvino.Type.f32, "BF16": openvino.Type.bf16, "FP16": openvino.Type.f16}
    found = {
        name.lower(): FLOPS / _seconds(convolutions(quantised=False), kind, threads) / 1e9
        for name, kind in kinds.items()
        if name in able
    }
    if "INT8" in able:
        seconds = _seconds(convolutions(quantised=True), openvino.Type.f32, threads)
        found["int8"] = FLOPS / seconds / 1e9
    found["memory"] = 8 * FLOATS / _seconds(activation(), openvino.Type.f32, threads) / 1e9
    return found


def _seconds(graph: openvino.Model, kind: openvino.Type, threads: int) -> float:
    """Of the fastest run."""
    config: dict[str, object] = {
        hint.performance_mode(): hint.PerformanceMode.LATENCY,
        hint.inference_precision(): kind,
    }
    if threads:
        config[properties.inference_num_threads()] = threads
    request = core().compile_model(graph, "CPU", config).create_infer_request()
    return _best(lambda: (request.start_async(), request.wait()))


def _best(run: Callable[[], object]) -> float:
    """Seconds of the fastest run of a second's, at least five."""
    times: list[float] = []
    while len(times) < 5 or sum(times) < SECONDS:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def activation() -> openvino.Model:
    """float32 values → the same without those below zero."""
    frame = ops.parameter([1, 32, FLOATS >> 15, 1 << 10], np.float32, name="frame")
    return openvino.Model([ops.relu(frame)], [frame], "activation")


def convolutions(quantised: bool) -> openvino.Model:
    """uint8 image-like values → convolutions with ReLU → one value a channel."""
    weights = np.random.default_rng(0).integers(-127, 127, (CHANNELS, CHANNELS, 3, 3), np.int8)
    one, top = np.float32(1e-4), np.float32(255 * 0.02)  # the steps of weights and of values
    frame = ops.parameter([1, CHANNELS, SIDE, SIDE], np.uint8, name="frame")
    values = ops.multiply(ops.convert(frame, "f32"), np.float32(0.02))
    for _ in range(LAYERS):
        kernel = ops.constant(weights.astype(np.float32) * one)
        if quantised:
            values = ops.fake_quantize(values, np.float32(0), top, np.float32(0), top, 256)
            kernel = ops.multiply(ops.convert(ops.constant(weights), "f32"), one)
        values = ops.relu(ops.convolution(values, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    answer = ops.reduce_mean(values, np.array([2, 3]), keep_dims=True)
    return openvino.Model([answer], [frame], "convolutions")


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(measure(int(sys.argv[1]))) + b"\n")
