"""TensorRT: the right engine or one clear line, and on a GPU the same labels as elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import onnx
import pytest

from runtime import files, machine
from runtime.backends import trt, trt_builder, trt_cache
from runtime.backends.registry import BACKENDS, load_engine
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError

RTX = "tensorrt_rtx"
gpu = pytest.mark.gpu
# On a GPU TensorRT where it is installed: TensorRT-RTX knows no GPU of data centres.
LIBRARY = "tensorrt" if find_spec("tensorrt") else RTX
needs_gpu = pytest.mark.skipif(
    not (machine.gpus() and find_spec("pycuda") and find_spec(LIBRARY)),
    reason="no NVIDIA GPU, no pycuda, or no TensorRT on this machine",
)


@pytest.fixture
def built(bundle: Path) -> Path:
    """The engine of the tiny bundle, built for sm89 wherever the tests run."""
    return trt.build(bundle, RTX, ["sm89"])[0]


def check(engine: Path) -> bytes | None:
    """What stands between an engine file and its parser."""
    manifest = Manifest.load(engine.parents[1])
    return trt._checked(engine, manifest.files["model.onnx"], RTX, "sm89")


def test_an_engine_is_kept_under_library_version_and_device(built: Path) -> None:
    assert built.name.startswith("tensorrt_rtx-") and built.name.endswith("-sm89.engine")
    assert check(built) == built.read_bytes()


def test_one_changed_bit_is_refused(built: Path) -> None:
    data = bytearray(built.read_bytes())
    data[len(data) // 2] ^= 1
    built.write_bytes(data)
    with pytest.raises(
        HedgeError, match=r"sha256 differs from its sidecar .* delete tensorrt_rtx-"
    ):
        check(built)


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"engine": "', b'{"": ' + b"[" * 10_000])
def test_an_engine_without_its_sidecar_is_refused(built: Path, content: bytes | None) -> None:
    sidecar = built.with_name(f"{built.name}.json")
    sidecar.unlink()
    if content is not None:
        sidecar.write_bytes(content)
    with pytest.raises(HedgeError, match="engine without a readable sidecar"):
        check(built)


@pytest.mark.parametrize(
    ("field", "value"), [("version", "1.0.0"), ("device", "sm120"), ("library", "tensorrt")]
)
def test_an_engine_from_elsewhere_is_refused(built: Path, field: str, value: str) -> None:
    sidecar = built.with_name(f"{built.name}.json")
    fields = msgspec.json.decode(sidecar.read_bytes()) | {field: value}
    sidecar.write_bytes(msgspec.json.encode(fields))
    with pytest.raises(HedgeError, match=f"built by .*{value}.*, here is tensorrt_rtx"):
        check(built)


def test_an_engine_of_an_older_graph_is_built_again(built: Path) -> None:
    assert trt._checked(built, "the sha256 of another graph", RTX, "sm89") is None


class Handed(NamedTuple):
    """What ``load`` would hand to TensorRT's parser, which takes a GPU."""

    plan: bytes
    manifest: Manifest
    backend: str
    in_flight: int


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an RTX 4090 and pycuda, up to the point where the GPU itself is needed."""
    monkeypatch.setattr(machine, "gpus", lambda: ("NVIDIA GeForce RTX 4090",))
    monkeypatch.setattr(machine, "compute_capability", lambda: "89")
    monkeypatch.setattr(trt, "find_spec", lambda name: True)
    monkeypatch.setattr(trt, "TrtEngine", Handed)


def test_an_engine_is_built_once_and_anew_for_another_graph(
    bundle: Path, resign: Callable[[Path], None], on_a_gpu: None
) -> None:
    def loaded() -> bytes:
        return trt.load(bundle, Manifest.load(bundle), 0, RTX).plan

    first = loaded()
    (path,) = (bundle / "engines").glob("*-sm89.engine")
    assert first == path.read_bytes()
    built = path.stat().st_mtime_ns
    assert loaded() == first and path.stat().st_mtime_ns == built
    model = onnx.load(bundle / "model.onnx")
    model.graph.node[1].name = "of another export"
    onnx.save(model, bundle / "model.onnx")
    resign(bundle)
    assert loaded() == path.read_bytes() and path.stat().st_mtime_ns > built
    assert check(path) is not None


def test_the_engine_is_told_how_many_batches_are_in_flight(bundle: Path, on_a_gpu: None) -> None:
    manifest = Manifest.load(bundle)
    assert [trt.load(bundle, manifest, 0, RTX, n).in_flight for n in (2, 1, 3)] == [2, 1, 3]


def test_engines_are_built_without_tf32_and_others_anew(built: Path) -> None:
    library = trt_builder.load(RTX)
    builder = library.Builder(trt_builder.logger(RTX))
    tf32 = library.BuilderFlag.TF32
    assert builder.create_builder_config().get_flag(tf32), "the library's default has changed"
    assert not trt_builder.configured(builder, RTX, trt_cache.BuildOptions()).get_flag(tf32)
    sidecar = built.with_name(f"{built.name}.json")
    fields = msgspec.json.decode(sidecar.read_bytes())
    assert fields.pop("tf32") is False and check(built) is not None
    sidecar.write_bytes(msgspec.json.encode(fields))  # as before the setting was recorded
    assert check(built) is None


def test_rtx_is_given_no_timings(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They change nothing in it, are to be removed, and made its early versions want a GPU."""
    config = trt_builder.load(RTX).IBuilderConfig
    for name in ("create_timing_cache", "set_timing_cache", "get_timing_cache"):
        monkeypatch.delattr(config, name)
    (path,) = trt.build(bundle, RTX)
    assert sorted(path.parent.iterdir()) == [path, path.with_name(f"{path.name}.json")]


def test_engines_of_rtx_work_in_memory_that_they_are_given() -> None:
    """Else they may take some as they run, which no CUDA graph can hold."""
    library = trt_builder.load(RTX)
    config = trt_builder.configured(
        library.Builder(trt_builder.logger(RTX)), RTX, trt_cache.BuildOptions()
    )
    assert config.get_flag(trt_builder.given_memory(RTX))
    assert library.ExecutionContextAllocationStrategy.USER_MANAGED
    assert library.IExecutionContext.set_device_memory and library.ICudaEngine.device_memory_size_v2


def test_a_damaged_engine_never_reaches_the_parser(built: Path, on_a_gpu: None) -> None:
    data = bytearray(built.read_bytes())
    data[-1] ^= 128
    built.write_bytes(data)
    bundle = built.parents[1]
    with pytest.raises(HedgeError, match="sha256 differs from its sidecar"):
        trt.load(bundle, Manifest.load(bundle), 0, RTX)


def test_a_missing_pycuda_is_named(
    bundle: Path, on_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt, "find_spec", lambda name: None)
    with pytest.raises(HedgeError, match=r"pycuda .* pip install 'hedge-seg\[tensorrt-rtx\]'"):
        trt.load(bundle, Manifest.load(bundle), 0, RTX)


def test_timings_that_were_damaged_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "x.timing"
    assert files.read_sealed(path) == b""
    files.save_sealed(path, b"nanoseconds")
    assert files.read_sealed(path) == b"nanoseconds"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    for damaged in (bytes(content), content[:70], b""):
        path.write_bytes(damaged)
        assert files.read_sealed(path) == b""


def test_a_damaged_graph_never_reaches_the_parser(bundle: Path) -> None:
    model = bundle / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(HedgeError, match=r"model\.onnx: sha256 differs"):
        trt.build(bundle, RTX)


def test_a_library_that_is_missing_is_named_with_its_extra(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt_builder, "find_spec", lambda name: None)
    with pytest.raises(HedgeError, match=r"pip install 'hedge-seg\[tensorrt-rtx\]'"):
        trt.build(bundle, RTX)


def test_a_library_that_lacks_another_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As JetPack 6 without the package of its DLA: TensorRT's own line is all that helps."""
    lacks = "libnvdla_compiler.so: cannot open shared object file"
    (tmp_path / "broken_library.py").write_text(f"raise ImportError({lacks!r})")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HedgeError, match=f"^broken_library does not start: {lacks}"):
        trt_builder.load("broken_library")


@pytest.mark.parametrize("library", [name for name in BACKENDS if name.startswith("tensorrt")])
def test_without_a_gpu_nothing_falls_back(
    library: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "gpus", tuple)
    with pytest.raises(HedgeError, match=r"no NVIDIA GPU|is not installed"):
        load_engine(bundle, library)


def test_tensorrt_is_built_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", tuple)
    with pytest.raises(HedgeError, match="--engine tensorrt_rtx builds anywhere"):
        trt._devices("tensorrt")
    monkeypatch.setattr(machine, "gpus", lambda: ("NVIDIA Orin",))
    monkeypatch.setattr(machine, "compute_capability", lambda: "87")
    assert trt._devices("tensorrt") == ["NVIDIA-Orin-sm87"]
    assert trt._devices(RTX) == ["portable"], "no target of this library"
    monkeypatch.setattr(machine, "compute_capability", lambda: "89")
    assert trt._devices(RTX) == ["sm89", "portable"]


@pytest.fixture
def frames() -> list[np.ndarray]:
    """Five batches for the tiny bundle, all different."""
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=(1, 24, 32, 3), dtype=np.uint8) for _ in range(5)]


@gpu
@needs_gpu
def test_gpu_gives_the_labels_of_the_cpu(bundle: Path, frames: list[np.ndarray]) -> None:
    with load_engine(bundle, LIBRARY) as engine, load_engine(bundle, "onnxruntime") as reference:
        for frame in frames:  # the first without a CUDA graph, the others with one
            assert np.array_equal(engine.infer(frame), reference.infer(frame))


@gpu
@needs_gpu
def test_gpu_runs_engines_for_any_number_of_frames(bundle: Path, frames: list[np.ndarray]) -> None:
    trt.build(bundle, LIBRARY, options=trt_cache.BuildOptions(max_batch=4))
    with load_engine(bundle, LIBRARY) as engine, load_engine(bundle, "onnxruntime") as reference:
        for frame in frames:
            assert np.array_equal(engine.infer(frame), reference.infer(frame))


@gpu
@needs_gpu
def test_gpu_answers_in_order_with_two_in_flight(bundle: Path, frames: list[np.ndarray]) -> None:
    manifest = Manifest.load(bundle)
    with trt.load(bundle, manifest, 0, LIBRARY, in_flight=2) as engine:
        expected = [engine.infer(frame) for frame in frames]
        engine.submit(frames[0])
        for number, frame in enumerate(frames[1:]):
            engine.submit(frame)
            with pytest.raises(RuntimeError, match="in flight"):
                engine.submit(frame)
            assert np.array_equal(engine.result(), expected[number])
        assert np.array_equal(engine.result(), expected[-1])


@gpu
@needs_gpu
def test_gpu_engines_close_twice_and_in_any_order(
    bundle: Path, frames: list[np.ndarray], make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    first = load_engine(bundle, LIBRARY)
    second = load_engine(make_bundle(tmp_path / "other"), LIBRARY)
    first.close()
    first.close()
    assert second.infer(frames[0]).shape == (1, 24, 32)
    second.close()
