"""Ranges: exact extremes from inside the graph, and thresholds that give up outliers only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.int8 import qdq, ranges
from export.int8.ranges import BINS, Histogram, Method
from export.own.deploy import DeployGraph
from export.own.to_onnx import to_onnx
from runtime.errors import HedgeError
from train.config import ModelConfig
from train.models import DeepLab

ROOT = Path(__file__).parents[3]
SIZE = (64, 96)


def histogram(*images: np.ndarray) -> Histogram:
    found = Histogram()
    for values in images:
        found.add(float(values.min()), float(values.max()), values)
    return found


def normal(count: int = 20_000) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, count).astype(np.float32)


@pytest.mark.parametrize("method", get_args(Method))
def test_a_range_never_leaves_what_was_seen(method: Method) -> None:
    values = normal()
    for seen in (values, np.abs(values), -np.abs(values)):
        low, high = histogram(seen).range(method)
        assert seen.min() <= low <= high <= seen.max()


def test_minmax_keeps_everything() -> None:
    values = np.append(normal(), 1e4)
    assert histogram(values).range("minmax") == (values.min(), 1e4)


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_an_outlier_does_not_take_the_codes_of_the_others(method: Method) -> None:
    high = histogram(np.append(normal(), 100.0)).range(method)[1]
    assert 2 < high < 20


def test_one_value_that_fits_is_no_reason_to_clip_all_others() -> None:
    """As where a gate's lowest value lies on the edge of a bin at which the search looks."""
    rng = np.random.default_rng(0)
    edge = (ranges.CODES + 13 * BINS // 256) * 2 / BINS
    gate = np.append(rng.uniform(0.7, 1.4, 1500), edge).astype(np.float32)
    assert histogram(gate).range("entropy")[1] > 1


@st.composite
def values(draw: st.DrawFn) -> np.ndarray:
    """(N,) float32, of which many are powers of two or edges of bins, or the next to them."""
    edges = st.builds(
        lambda place, power: place / BINS * 2.0**power,
        st.integers(-BINS, BINS) | st.sampled_from([0, 1, BINS // 2, BINS]), st.integers(-6, 6),
    )  # fmt: skip
    found = np.array(draw(st.lists(edges | st.floats(-64, 64, width=32), min_size=1)), np.float32)
    away = draw(st.lists(st.sampled_from([-np.inf, 0, np.inf]), min_size=1))
    ways = np.resize(np.array(away, np.float32), found.shape)
    return np.where(ways == 0, found, np.nextafter(found, ways))


@settings(max_examples=40)
@given(st.lists(values(), min_size=1, max_size=6), st.data())
def test_any_order_and_company_of_images_gives_one_histogram(
    images: list[np.ndarray], data: st.DataObject
) -> None:
    """That of all values at once, to the bit, and its ranges."""
    everything = np.concatenate(images)
    wanted = histogram(everything)
    numbers = data.draw(st.lists(st.integers(0, 2), min_size=len(images), max_size=len(images)))
    order = data.draw(st.permutations(range(len(images))))
    parts = [histogram(*(images[i] for i in order if numbers[i] == number)) for number in range(3)]
    found = Histogram()
    for part in data.draw(st.permutations(parts)):
        found.merge(part)
    assert repr((found.low, found.high, found.limit)) == repr(
        (wanted.low, wanted.high, wanted.limit)
    )
    assert np.array_equal(found.counts, wanted.counts)
    assert all(found.range(method) == wanted.range(method) for method in get_args(Method))
    largest = float(np.abs(everything).max())
    assert np.log2(wanted.limit or 1) % 1 == 0
    assert wanted.limit / 2 < largest <= wanted.limit or wanted.limit == largest == 0
    edges = np.linspace(0, wanted.limit, BINS + 1)
    places = np.searchsorted(edges, np.abs(everything[everything != 0]).astype(np.float64)) - 1
    assert np.array_equal(np.bincount(places, minlength=BINS), wanted.counts)


@pytest.mark.parametrize("method", get_args(Method))
def test_a_tensor_of_zeros_has_a_range(method: Method) -> None:
    assert histogram(np.zeros(100, np.float32)).range(method) == (0, 0)


def test_extremes_come_from_every_pixel(lite_graph: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(256, size=(*SIZE, 3), dtype=np.uint8) for _ in range(3)]
    found = ranges.observe(lite_graph, iter(frames))
    names = qdq.tensors(ir.load(lite_graph))
    assert list(found) == names
    proto = onnx.load(lite_graph)
    some = names[:: len(names) // 8]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in some)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    runs = [session.run(some, {"frame": frame[None]}) for frame in frames]
    for index, name in enumerate(some):
        values = np.stack([run[index] for run in runs])
        # The same arithmetic in another fusion: equal but for the last bits.
        assert found[name].low == pytest.approx(values.min(), rel=1e-4, abs=1e-5), name
        assert found[name].high == pytest.approx(values.max(), rel=1e-4, abs=1e-5), name


def test_no_tensor_is_kept_once_it_was_observed(tmp_path: Path) -> None:
    """Peak memory of observing one image, against all the tensors that are observed.

    One of three processes is enough: threads decide how far the allocator runs ahead, 155 to 272
    MB, where a graph that keeps them takes 310 to 318 MB of at least 253.
    """
    model = DeepLab(ModelConfig("mobilenet_v2", num_classes=3, se="sigmoid", hed="lite"))
    graph, size = tmp_path / "fp32.onnx", (384, 768)
    to_onnx(DeployGraph(model, size, size), 1, graph)
    code = f"""
import re
import numpy as np
from pathlib import Path
from export.int8 import ranges
def peak():  # not ru_maxrss, which a process has from its parent
    return int(re.search("VmHWM:.* (.+) kB", Path("/proc/self/status").read_text())[1]) << 10
ranges.observe(Path({str(graph)!r}), [])
before = peak()
ranges.observe(Path({str(graph)!r}), [np.zeros(({size[0]}, {size[1]}, 3), np.uint8)])
print(peak() - before)
"""
    command = [sys.executable, "-c", code]
    peaks = (
        int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
        for _ in range(3)
    )
    loaded = ir.load(graph)
    values = {value.name: value for node in loaded.graph for value in node.outputs}
    everything = sum(4 * int(np.prod(values[n].shape.numpy())) for n in qdq.tensors(loaded))
    assert any(0 < peak < everything for peak in peaks)


def test_values_that_are_not_finite_are_named(lite_graph: Path, tmp_path: Path) -> None:
    proto = onnx.load(lite_graph)
    bias = next(tensor for tensor in proto.graph.initializer if tensor.name.endswith("bias"))
    infinite = np.full(tuple(bias.dims), np.inf, np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(infinite, bias.name))
    onnx.save(proto, tmp_path / "fp32.onnx")
    with pytest.raises(HedgeError, match="not finite"):
        ranges.observe(tmp_path / "fp32.onnx", [np.zeros((*SIZE, 3), np.uint8)])


def test_what_is_no_number_is_named_where_the_extremes_pass_over_it(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["": 18]>
        logs (float[1,3,8,8] image) => (float[1,4,8,8] answer) <float[4,3,1,1] kernel> {
            log = Log(image)
            answer = Conv(log, kernel)
        }""")
    kernel = np.ones((4, 3, 1, 1), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "kernel"))
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "fp32.onnx")
    image = np.ones((3, 8, 8), np.float32)
    image[1, 4, 4] = -1
    with pytest.raises(HedgeError, match="'log' is not finite"):
        ranges.observe(tmp_path / "fp32.onnx", [image])
