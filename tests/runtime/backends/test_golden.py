"""Golden frames: an engine that answers otherwise is refused; what is proven is asked once."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import machine
from runtime.backends import ort, registry
from runtime.backends.base import Engine
from runtime.backends.golden import PROVEN
from runtime.backends.registry import Backend, load_engine
from runtime.bundle.manifest import Manifest
from runtime.config import VideoConfig
from runtime.errors import GateError, HedgeError
from runtime.video import main
from tests.equipment.bundles import make_bundle

BLACK, GOLDEN = "black", "golden"
CALLS: list[str] = []  # what each was about
FIRST: list[np.ndarray] = []  # the first of them


class Watched(ort.OrtEngine):
    """ONNX Runtime; ``wrong`` labels the upper half of each frame with one class.

    ``unlike`` does so with the first frame alone, ``foreign`` answers a class that there is not.
    """

    def infer(self, batch: np.ndarray) -> np.ndarray:
        labels = super().infer(batch)
        CALLS.append(GOLDEN if batch.any() else BLACK)
        if not FIRST:
            FIRST.append(batch)
        first = np.array_equal(batch, FIRST[0])
        if self.backend == "wrong" or (self.backend == "unlike" and first):
            labels[:, : labels.shape[1] // 2] = 0
        if self.backend == "foreign":
            labels[:] = 3
        return labels


def load(
    bundle: Path, manifest: Manifest, threads: int, backend: str, in_flight: int, device: str
) -> Engine:
    """What makes this file the module of a backend."""
    engine = ort.load(bundle, manifest, threads, "onnxruntime", in_flight)
    engine.__class__, engine.backend = Watched, backend
    return engine


@pytest.fixture
def golden_bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", golden_frames=True)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the table these planted backends alone."""

    def run(*planted: str) -> None:
        CALLS.clear()
        FIRST.clear()
        rows = {name: Backend(__name__, "onnxruntime", "runtime", "cpu") for name in planted}
        monkeypatch.setattr(registry, "BACKENDS", rows)

    return run


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_an_engine_that_answers_as_pytorch_did_is_taken(backend: str, golden_bundle: Path) -> None:
    for _ in range(2):
        load_engine(golden_bundle, backend, threads=1).close()


def test_a_bundle_that_takes_no_writes_is_asked_each_time(
    plant: Callable[..., None], mount_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    """By its permissions, or for root by its file system."""
    plant("right")
    root = os.geteuid() == 0
    disk = mount_disk("8m") if root else tmp_path
    bundle = make_bundle(disk / "tiny", golden_frames=True)
    if root:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    else:
        bundle.chmod(0o555)
    for _ in range(2):
        load_engine(bundle, threads=1).close()
    assert CALLS == [GOLDEN, GOLDEN] and not (bundle / PROVEN).exists()


def test_a_wrong_engine_is_refused_in_one_line(
    plant: Callable[..., None], golden_bundle: Path, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    plant("wrong")
    clip = make_clip(tmp_path / "drive.mp4", 2)
    with pytest.raises(GateError) as caught:
        main(VideoConfig(str(clip), golden_bundle, out=tmp_path / "out.mp4"))
    message, version = str(caught.value), machine.version("onnxruntime")
    assert f"{golden_bundle}: wrong {version} on CPU gives 67.10 %" in message
    assert "\n" not in message
    assert "the bundle's bound for fp32 is 99.00 %" in message and caught.value.exit_code == 4
    assert not (golden_bundle / PROVEN).exists() and not (tmp_path / "out.mp4").exists()


def test_auto_goes_on_with_the_next(
    plant: Callable[..., None], golden_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant("wrong", "right")
    for _ in range(2):
        with load_engine(golden_bundle, threads=1) as engine:
            assert engine.backend == "right"
        assert "warning: wrong is left out: " in capsys.readouterr().err


def test_what_was_proven_here_is_not_asked_again(
    plant: Callable[..., None], golden_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant("right")

    def calls() -> list[str]:
        CALLS.clear()
        load_engine(golden_bundle, threads=1).close()
        return list(CALLS)

    assert [calls(), calls()] == [[GOLDEN], [BLACK]], "one answer a start, whatever it is about"
    changes: list[tuple[object, str, object]] = [
        (machine, "gpu_driver", lambda: "580.1"),
        (machine, "gpus", lambda: ("L4",)),
        (machine, "cpu_features", lambda: ("none of these",)),
        (machine, "version", lambda distribution: "9.9"),
    ]
    for place, name, answer in changes:  # each is another machine
        with monkeypatch.context() as patch:
            patch.setattr(place, name, answer)
            assert [calls(), calls()] == [[GOLDEN], [BLACK]], name
        assert calls() == [BLACK], "what was proven before is still known"
    replace(Manifest.load(golden_bundle), name="exported-again").save(golden_bundle)
    assert [calls(), calls()] == [[GOLDEN], [BLACK]]
    for damaged in (b"[", b'[{"": ' + b"[" * 10_000):
        (golden_bundle / PROVEN).write_bytes(damaged)
        assert calls() == [GOLDEN]


@pytest.mark.parametrize("bound", [0.80, 0.95])
def test_a_first_frame_below_the_bound_lets_all_decide(
    bound: float, plant: Callable[..., None], golden_bundle: Path
) -> None:
    manifest = Manifest.load(golden_bundle)
    golden = replace(manifest.golden, bounds={"fp32": bound})
    replace(manifest, golden=golden).save(golden_bundle)
    plant("unlike")  # it gives 67 % of the first frame, so 89 % of all three
    if bound == 0.80:
        load_engine(golden_bundle, threads=1).close()
    else:
        with pytest.raises(GateError, match=r"unlike .* gives 88\.76 % of the golden frames"):
            load_engine(golden_bundle, threads=1)
    assert CALLS == 4 * [GOLDEN]


def test_a_class_that_there_is_not_is_refused(
    plant: Callable[..., None], golden_bundle: Path
) -> None:
    plant("foreign")
    with pytest.raises(HedgeError, match="answers class 3, but its manifest names 3 classes"):
        load_engine(golden_bundle, threads=1)
    assert not (golden_bundle / PROVEN).exists()


def test_golden_frames_are_sealed(golden_bundle: Path, resign: Callable[[Path], None]) -> None:
    picture = golden_bundle / "golden" / "0.png"
    cv2.imwrite(str(picture), np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(HedgeError, match=r"golden.0\.png: sha256 differs"):
        load_engine(golden_bundle, "onnxruntime")
    cv2.imwrite(str(picture), np.zeros((9, 9, 3), np.uint8))
    resign(golden_bundle)
    with pytest.raises(HedgeError, match=r"golden.0\.png: golden frames are \(24, 32\)"):
        load_engine(golden_bundle, "onnxruntime")
    shutil.rmtree(golden_bundle / "golden")
    with pytest.raises(HedgeError, match="missing from the bundle"):
        load_engine(golden_bundle, "onnxruntime")
    manifest = Manifest.load(make_bundle(golden_bundle.parent / "other", golden_frames=True))
    with pytest.raises(HedgeError, match=r'file without a sha256: "golden/0-labels.png"'):
        replace(manifest, files={"model.onnx": manifest.files["model.onnx"]})


def test_a_bundle_without_golden_frames_loads_as_ever(
    plant: Callable[..., None], bundle: Path
) -> None:
    assert "golden" not in Manifest.load(bundle)._content()
    plant("wrong")
    load_engine(bundle, threads=1).close()
    assert CALLS == [BLACK] and not (bundle / PROVEN).exists()


def test_batches_are_filled(
    tmp_path: Path, plant: Callable[..., None], resign: Callable[[Path], None]
) -> None:
    plant("right")
    four = make_bundle(tmp_path / "four", batch=4, golden_frames=True)
    two = make_bundle(tmp_path / "two", batch=2, golden_frames=True)
    for bundle in (four, two):
        load_engine(bundle, threads=1).close()
    assert CALLS == 2 * [GOLDEN], "a batch is enough"
    for bundle in (four, two):
        shutil.rmtree(bundle / "engines")
        for number in range(2):
            nothing = np.zeros((24, 32), np.uint8)
            cv2.imwrite(str(bundle / "golden" / f"{number}-labels.png"), nothing)
        resign(bundle)
        CALLS.clear()
        with pytest.raises(GateError):
            load_engine(bundle, threads=1)
        assert len(CALLS) == {four: 1 + 1, two: 1 + 2}[bundle]
