"""TrtEngine against stand-ins for pycuda, TensorRT and cuda-python, which keep account.

What is tested is the engine's own part: what it takes and frees, in which order and context, how
many batches it starts, and what it does where a call fails. The answers of a real GPU are tested
in ``test_trt``.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runtime.backends import trt, trt_builder, trt_slot
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError
from tests.runtime.backends.gpu_account import Context, Gpu, driver_of, runtime_of, tensorrt_of

HELD_BY_A_SLOT = ["buffer", "buffer", "event", "execution context", "stream"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, manifest: Manifest) -> Gpu:
    gpu = Gpu()
    driver, cuda = driver_of(gpu), runtime_of(gpu)
    library = tensorrt_of(gpu, manifest)
    pycuda: Any = ModuleType("pycuda")
    pycuda.driver = driver
    bindings: Any = ModuleType("cuda.bindings")
    bindings.runtime = cuda
    for name, module in {
        "pycuda": pycuda, "pycuda.driver": driver, "cuda": ModuleType("cuda"),
        "cuda.bindings": bindings, "cuda.bindings.runtime": cuda,
    }.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(trt_builder, "load", lambda name: library)
    monkeypatch.setattr(trt_builder, "logger", lambda name: SimpleNamespace(errors=["why"]))
    trt_slot.primary_context.cache_clear()
    trt_slot._warn_once.cache_clear()
    return gpu


@pytest.fixture
def manifest(bundle: Path) -> Manifest:
    return Manifest.load(bundle)


@pytest.fixture
def frames(manifest: Manifest) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=manifest.input.shape, dtype=np.uint8) for _ in range(4)]


def answers(engine: trt.TrtEngine, frames: list[np.ndarray]) -> bool:
    """Whether each frame's labels are its own."""
    return all(np.array_equal(engine.infer(frame), frame[..., 0]) for frame in frames)


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_closing_frees_everything_in_the_context_and_the_engine_after_its_users(
    gpu: Gpu, manifest: Manifest, frames: list[np.ndarray], in_flight: int
) -> None:
    engine = trt.TrtEngine(b"", manifest, "tensorrt", in_flight)
    assert answers(engine, frames)
    assert sorted(gpu.held) == sorted(HELD_BY_A_SLOT * in_flight + ["engine", "runtime"])
    engine.close()
    engine.close()
    assert gpu.held == [] and gpu.outside == [] and gpu.graphs == 0 and gpu.current == 0
    assert gpu.freed[-2:] == ["engine", "runtime"]
    last = gpu.freed[-2 - len(HELD_BY_A_SLOT) : -2]
    assert last[0] == "execution context" and last[-1] == "stream"


@pytest.mark.parametrize("kind", ["stream", "event", "buffer", "execution context", "memory"])
@pytest.mark.parametrize("slots_before", [0, 1])
def test_an_engine_that_cannot_start_leaves_nothing_behind(
    gpu: Gpu, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, kind: str, slots_before: int
) -> None:
    prepare, made = trt_slot.Slot.prepare, []

    def failing(slot: trt_slot.Slot, engine: object, manifest: Manifest) -> None:
        if len(made) == slots_before:
            gpu.fails[kind] = RuntimeError("out of memory")
        made.append(slot)
        prepare(slot, engine, manifest)

    monkeypatch.setattr(trt_slot.Slot, "prepare", failing)
    with pytest.raises((RuntimeError, HedgeError), match=r"out of memory|engine: why$") as caught:
        trt.TrtEngine(b"", manifest, "tensorrt", 2)
    assert caught.traceback and gpu.held == [] and gpu.outside == [] and gpu.current == 0


def test_memory_that_is_missing_is_told_in_a_line(gpu: Gpu, manifest: Manifest) -> None:
    gpu.fails["buffer"] = sys.modules["pycuda.driver"].MemoryError("cuMemAlloc failed")
    with pytest.raises(HedgeError, match=r"no memory left for this engine \(cuMemAlloc failed\)"):
        trt.TrtEngine(b"", manifest, "tensorrt")
    assert gpu.held == [] and gpu.current == 0


def test_a_pycuda_for_another_cuda_is_told_in_a_line(
    gpu: Gpu, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)  # its import fails
    with pytest.raises(HedgeError, match=r"^pycuda does not start: "):
        trt.TrtEngine(b"", manifest, "tensorrt")


@pytest.mark.parametrize("kind", ["Builder", "Runtime"])
def test_a_driver_too_old_for_the_library_is_told_in_a_line(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def made(log: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    library: Any = SimpleNamespace(__version__="10.3.0", **{kind: made})
    log = SimpleNamespace(errors=[])
    monkeypatch.setattr(trt_builder, "load", lambda name: library)
    monkeypatch.setattr(trt_builder, "logger", lambda name: log)
    with pytest.raises(HedgeError, match=r"^tensorrt 10\.3\.0 does not start .* nvidia-smi"):
        trt_builder.started("tensorrt", kind)


def test_what_a_failing_gpu_still_holds_is_freed_as_well(
    gpu: Gpu, manifest: Manifest, frames: list[np.ndarray]
) -> None:
    engine = trt.TrtEngine(b"", manifest, "tensorrt", 2)
    assert answers(engine, frames)
    gpu.fails["synchronize"] = RuntimeError("an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        engine.close()
    assert gpu.held == [] and gpu.outside == [] and gpu.graphs == 0 and gpu.current == 0


def test_an_engine_of_rtx_is_given_the_memory_that_it_works_in(
    gpu: Gpu, manifest: Manifest, frames: list[np.ndarray]
) -> None:
    """Its contexts take none by themselves: see ``trt_builder.given_memory``."""
    trt_builder.load("").BuilderFlag.REQUIRE_USER_ALLOCATION = 1
    gpu.scratch = 1000
    with trt.TrtEngine(b"", manifest, "tensorrt_rtx", 2) as engine:
        assert answers(engine, frames) and gpu.held.count("buffer") == 2 * 3
    assert gpu.held == [] and gpu.outside == [] and gpu.graphs == 0


def test_an_engine_for_any_number_of_frames_counts_its_work(gpu: Gpu, manifest: Manifest) -> None:
    with trt.TrtEngine(b"", manifest, "tensorrt") as engine:
        assert engine.multiply_adds() == {"fp16": 1 * 2 * 3 * 10}
    assert gpu.held == [] and gpu.outside == []


def test_engines_share_the_primary_context_and_close_in_any_order(
    gpu: Gpu, manifest: Manifest, frames: list[np.ndarray]
) -> None:
    first, second = (trt.TrtEngine(b"", manifest, "tensorrt") for _ in range(2))
    assert gpu.retained == 1
    assert answers(first, frames)
    first.close()
    assert answers(second, frames)
    second.close()
    assert gpu.held == [] and gpu.outside == []


def test_one_in_flight_is_one_slot_and_two_are_two(
    gpu: Gpu, manifest: Manifest, frames: list[np.ndarray]
) -> None:
    for number in (1, 2):
        with trt.TrtEngine(b"", manifest, "tensorrt", number) as engine:
            assert engine.in_flight == number and gpu.held.count("stream") == number
            for frame in frames[:number]:
                engine.submit(frame)
            with pytest.raises(RuntimeError, match=f"^{number} batches are in flight"):
                engine.submit(frames[-1])
            for frame in frames[:number]:
                assert np.array_equal(engine.result(), frame[..., 0])


def test_streams_do_not_wait_for_other_work_in_the_process(gpu: Gpu, manifest: Manifest) -> None:
    with trt.TrtEngine(b"", manifest, "tensorrt") as engine:
        assert engine._slots[0].stream.flags == 1


def test_from_the_second_frame_on_a_graph_is_launched(
    gpu: Gpu, manifest: Manifest, frames: list[np.ndarray]
) -> None:
    with trt.TrtEngine(b"", manifest, "tensorrt") as engine:
        assert answers(engine, frames)
        assert (gpu.enqueued, gpu.launches, gpu.graphs) == (2, len(frames) - 1, 1)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("capture", "cudaErrorStreamCaptureInvalidated"),
        ("instantiate", "cudaErrorStreamCaptureInvalidated"),
        ("captured kernel", "cannot run its engine: why"),
    ],
)
def test_without_a_graph_frames_are_enqueued_and_it_is_said_once(
    gpu: Gpu, manifest: Manifest, frames: list[np.ndarray], fault: str, said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    gpu.fails[fault] = RuntimeError()
    for _ in range(2):
        with trt.TrtEngine(b"", manifest, "tensorrt", 2) as engine:
            for before, frame in pairwise(frames):  # both slots run twice
                engine.submit(before)
                engine.submit(frame)
                assert np.array_equal(engine.result(), before[..., 0])
                assert np.array_equal(engine.result(), frame[..., 0])
    warned = " ".join(capsys.readouterr().err.split())
    assert warned.count("no CUDA graph, each frame is enqueued by itself") == 1 and said in warned
    assert gpu.launches == 0 and gpu.graphs == 0 and gpu.held == []


@pytest.mark.parametrize(
    ("versions", "fits"),
    [((13000, 13000), True), ((12080, 12020), True), ((12080, 13000), True),
     ((13050, 12020), False)],
)  # fmt: skip
def test_a_cuda_python_too_new_for_the_driver_is_named(
    gpu: Gpu, manifest: Manifest, frames: list[np.ndarray], versions: tuple[int, int], fits: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    gpu.versions = versions
    with trt.TrtEngine(b"", manifest, "tensorrt") as engine:
        assert answers(engine, frames) and bool(gpu.launches) == fits
    said = " ".join(capsys.readouterr().err.split())
    expected = (
        "cuda-python is of CUDA 13.5, the driver knows CUDA 12.2: pip install 'cuda-python<13'"
    )
    assert (expected in said) == (not fits)


def test_what_graphs_gain_is_measured_without_them(
    gpu: Gpu, manifest: Manifest, frames: list[np.ndarray]
) -> None:
    with trt.TrtEngine(b"", manifest, "tensorrt") as engine:
        assert answers(engine, frames) and gpu.graphs == 1
        launched, enqueued = gpu.launches, gpu.enqueued
        engine.without_graphs()
        assert answers(engine, frames) and gpu.graphs == 0 and gpu.outside == []
        assert (gpu.launches, gpu.enqueued) == (launched, enqueued + len(frames))


def test_an_engine_whose_work_is_no_graph_runs_without(
    gpu: Gpu, manifest: Manifest, frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    ask = lambda context, stream: False  # noqa: E731
    monkeypatch.setattr(Context, "is_stream_capturable", ask, raising=False)
    with trt.TrtEngine(b"", manifest, "tensorrt_rtx", 2) as engine:
        assert answers(engine, frames) and gpu.launches == 0 and gpu.graphs == 0
    assert capsys.readouterr().err.count("no CUDA graph") == 1
