"""Which engine ``auto`` takes: the fastest as measured here, and measured once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from runtime import files, machine
from runtime.backends import ort
from runtime.backends.auto import ANSWERS, NOISE, medians, pick
from runtime.backends.base import Engine
from runtime.backends.registry import BACKENDS, Backend, installed_backends, load_engine
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError

REAL = installed_backends()
CALLS: list[str] = []  # what happened to the planted engines
FAILING = {"broken"}  # of them, those that do not load


class Planted(ort.OrtEngine):
    """ONNX Runtime, five milliseconds late; ``mute`` loads but does not answer."""

    def infer(self, batch: np.ndarray) -> np.ndarray:
        CALLS.append(f"infer {self.backend}")
        if self.backend == "mute":
            raise RuntimeError("out of memory")
        time.sleep(0.005)
        return super().infer(batch)

    def close(self) -> None:
        CALLS.append(f"close {self.backend}")
        super().close()


def load(
    bundle: Path, manifest: Manifest, threads: int, backend: str, in_flight: int, device: str
) -> Engine:
    """What makes this file the module of a backend."""
    CALLS.append(f"load {backend}")
    if backend in FAILING:
        raise HedgeError("no plan for this GPU")
    engine = ort.load(bundle, manifest, threads, backend, in_flight)
    engine.__class__ = Planted
    return engine


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the table these planted backends, then these real ones.

    Five rounds instead of twenty, of shorter calls: five milliseconds are seen in fewer, and most
    of these tests ask what becomes of an answer.
    """
    monkeypatch.setattr("runtime.latency.SETTLE_S", 0.015)
    monkeypatch.setattr("runtime.backends.auto.ROUNDS", (3, 5))

    def run(*planted: str, real: list[str] = REAL) -> None:
        CALLS.clear()
        rows = {name: Backend(__name__, "numpy", "runtime", "cpu") for name in planted}
        rows |= {name: BACKENDS[name] for name in real}
        monkeypatch.setattr("runtime.backends.registry.BACKENDS", rows)

    return run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of a user's own."""
    monkeypatch.setenv("HEDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept() -> list[Path]:
    """The files of all answers, the oldest first."""
    found = ANSWERS.folder.iterdir() if ANSWERS.folder.exists() else ()
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def choices() -> list[dict[str, Any]]:
    return [msgspec.json.decode(files.read_sealed(path)) for path in kept()]


def answers(engine: Engine) -> bool:
    frame = np.random.default_rng(0).integers(0, 256, (1, 24, 32, 3), np.uint8)
    return bool((engine.infer(frame) == frame.argmax(3)).all())


def test_a_slower_engine_is_never_taken(plant: Callable[..., None], bundle: Path) -> None:
    plant("slow")
    with load_engine(bundle, threads=1) as engine:
        assert engine.backend in REAL
        assert answers(engine)
    assert CALLS.count("load slow") == CALLS.count("close slow") == 1
    (choice,) = choices()
    assert choice["backend"] == engine.backend
    assert choice["ms"].keys() == {"slow", *REAL}
    assert choice["ms"]["slow"] >= 5 > choice["ms"][engine.backend] > 0


class Spinning(ort.OrtEngine):
    """Five milliseconds late; its threads hold the cores for a while after each call."""

    until = 0.0

    def infer(self, batch: np.ndarray) -> np.ndarray:
        time.sleep(0.005)
        Spinning.until = time.perf_counter() + 0.03
        return super().infer(batch)


class Victim(ort.OrtEngine):
    """Fast, but not while another engine's threads hold the cores."""

    def infer(self, batch: np.ndarray) -> np.ndarray:
        if time.perf_counter() < Spinning.until:
            time.sleep(0.01)
        return super().infer(batch)


def test_an_engine_is_not_judged_by_what_others_leave_behind(shared_bundle: Path) -> None:
    spinning, victim = (load_engine(shared_bundle, "onnxruntime", threads=1) for _ in range(2))
    spinning.__class__, victim.__class__ = Spinning, Victim
    with spinning, victim:
        found = medians({"spinning": spinning, "victim": victim})
    assert pick(found) == "victim" and found["victim"] < 5 <= found["spinning"]


def test_the_winner_of_two_is_the_real_one(plant: Callable[..., None], bundle: Path) -> None:
    for backend in REAL:
        plant("slow", real=[backend])
        with load_engine(bundle) as engine:
            assert engine.backend == backend
    assert [choice["backend"] for choice in choices()] == REAL


def test_the_next_start_measures_nothing_in_whatever_folder(
    plant: Callable[..., None], bundle: Path, tmp_path: Path
) -> None:
    plant("slow")
    load_engine(bundle, threads=1).close()
    (choice,) = choices()
    CALLS.clear()
    for place in (bundle, shutil.copytree(bundle, tmp_path / "elsewhere")):
        with load_engine(place, threads=1) as engine:
            assert engine.backend in REAL and answers(engine)
        assert not CALLS and choices() == [choice]


def test_each_number_of_threads_has_its_answer(plant: Callable[..., None], bundle: Path) -> None:
    plant("slow")
    for threads, measured in ((1, True), (2, True), (1, False), (2, False)):
        CALLS.clear()
        load_engine(bundle, threads=threads).close()
        assert bool(CALLS) is measured
    assert len(choices()) == 2


@pytest.mark.parametrize(
    ("fact", "other"),
    [
        ("cpu_name", "another"), ("cpu_features", ("amx",)), ("cores", 999),
        ("gpus", ("H100",)), ("gpu_driver", "1.2"), ("version", "9"),
    ],
)  # fmt: skip
def test_on_another_machine_it_is_measured_anew(
    fact: str,
    other: object,
    plant: Callable[..., None],
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant("slow")
    load_engine(bundle, threads=1).close()
    CALLS.clear()
    monkeypatch.setattr(machine, fact, lambda *_: other)
    load_engine(bundle, threads=1).close()
    assert "load slow" in CALLS and len(choices()) == 2


def test_another_graph_is_measured_anew(
    plant: Callable[..., None], bundle: Path, resign: Callable[[Path], None]
) -> None:
    plant("slow")
    load_engine(bundle, threads=1).close()
    CALLS.clear()
    graph = onnx.load(bundle / "model.onnx")
    graph.producer_name = "another"
    onnx.save(graph, bundle / "model.onnx")
    resign(bundle)
    load_engine(bundle, threads=1).close()
    assert "load slow" in CALLS and len(choices()) == 2


@pytest.mark.parametrize("damage", [b"", b"[", b"{}", b'{"backend": "slow"}', b"\xff\x00"])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_damaged_answer_is_measured_again(
    sealed: bool, damage: bytes, plant: Callable[..., None], bundle: Path
) -> None:
    plant("slow")
    load_engine(bundle).close()
    (path,) = kept()
    (files.save_sealed if sealed else Path.write_bytes)(path, damage)
    CALLS.clear()
    with load_engine(bundle) as engine:
        assert engine.backend in REAL
    assert "infer slow" in CALLS and len(choices()) == 1


def test_an_answer_that_names_no_backend_is_measured_again(
    plant: Callable[..., None], bundle: Path
) -> None:
    plant("slow")
    load_engine(bundle).close()
    forge("tensorfly")
    with load_engine(bundle) as engine:
        assert engine.backend in REAL
    assert [choice["backend"] for choice in choices()] == [engine.backend]


def forge(backend: str) -> None:
    """Let the one answer name ``backend``."""
    (path,), (choice,) = kept(), choices()
    files.save_sealed(path, msgspec.json.encode(choice | {"backend": backend}))


def test_a_file_where_the_cache_should_be_is_left_alone(
    plant: Callable[..., None], bundle: Path, cache: Path
) -> None:
    plant("slow")
    cache.write_text("mine")
    with load_engine(bundle) as engine:
        assert engine.backend in REAL
    assert cache.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "reason"), [("broken", "no plan for this GPU"), ("mute", "out of memory")]
)
def test_a_backend_that_fails_is_left_out(
    name: str,
    reason: str,
    plant: Callable[..., None],
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant(name, "slow")
    for _ in range(2):  # what fails now may not fail later, so nothing is remembered
        with load_engine(bundle) as engine:
            assert engine.backend in REAL
        warning = capsys.readouterr().err
        assert f"warning: {name} is left out: " in warning and reason in warning
    assert CALLS.count(f"close {name}") == (2 if name == "mute" else 0)
    assert not choices()


def test_the_only_one_that_starts_is_not_timed(plant: Callable[..., None], bundle: Path) -> None:
    plant("broken", "slow", real=[])
    with load_engine(bundle) as engine:
        assert engine.backend == "slow"
        assert CALLS.count("infer slow") == 2, "once as it is loaded, once on noise"


def test_an_answer_that_no_longer_loads_is_measured_again(
    plant: Callable[..., None],
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant("slow")
    load_engine(bundle).close()
    forge("slow")
    monkeypatch.setattr(f"{__name__}.FAILING", {"slow"})
    with load_engine(bundle) as engine:
        assert engine.backend in REAL
    assert "slow is left out" in capsys.readouterr().err


def test_where_all_fail_the_last_error_is_told(plant: Callable[..., None], bundle: Path) -> None:
    plant("mute", "broken", real=[])
    with pytest.raises(HedgeError, match="no plan for this GPU"):
        load_engine(bundle)


def test_one_candidate_is_simply_loaded(plant: Callable[..., None], bundle: Path) -> None:
    plant("slow", real=[])
    with load_engine(bundle) as engine:
        assert engine.backend == "slow"
        assert CALLS == ["load slow", "infer slow"]
    assert not choices()


@pytest.mark.parametrize("backend", ["slow", *REAL])
def test_a_name_is_obeyed(backend: str, plant: Callable[..., None], bundle: Path) -> None:
    plant("slow")
    with load_engine(bundle, backend) as engine:
        assert engine.backend == backend and answers(engine)
    assert not choices()


def test_a_backend_for_gpus_needs_one(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    row = Backend(__name__, "numpy", "tensorrt", "cuda")
    monkeypatch.setattr("runtime.backends.registry.BACKENDS", {"cuda": row})
    monkeypatch.setattr(machine, "gpus", lambda: ())
    assert installed_backends() == []
    with load_engine(bundle, "cuda") as engine:  # its own module says what is missing
        assert engine.backend == "cuda"
    monkeypatch.setattr(machine, "gpus", lambda: ("H100",))
    assert installed_backends() == ["cuda"]


def test_within_noise_the_first_of_the_table_is_taken() -> None:
    assert pick({"a": 10.2, "b": 10.0, "c": 12.0}) == "a"
    assert pick({"a": 10.0 * NOISE + 0.01, "b": 10.0, "c": 10.0}) == "b"
    assert pick({"a": 12.0, "b": 11.0, "c": 10.0}) == "c"
