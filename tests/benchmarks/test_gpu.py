"""The command for a GPU, on what is here: its rows, its time, its ends, and steps on real cells."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.cells.process import LostError
from benchmarks.cells.training import Training
from benchmarks.cells.worker import Spec
from benchmarks.gpu import Gpu, main
from benchmarks.studies import gpu_steps
from benchmarks.studies.gpu_steps import Asked, Figures, Place, Step
from runtime import machine
from runtime.errors import HedgeError
from runtime.sources.hardware.decoder import HARDWARE, LEVELS

MODEL = "mobilenet_v2-dlse_hed-64x96"
QUICK = Gpu(quick=True, sizes=("64x96",), threads=1)


def _rows(out: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((out / "gpu.json").read_bytes())
    return {row["step"]: row for row in found["rows"]}


def test_a_report_that_cannot_be_written_is_told_before_a_step_takes_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_place", lambda *_: pytest.fail("begun"))
    with pytest.raises(HedgeError, match="cannot be written"):
        main(replace(QUICK, bundles=tmp_path, out=Path(__file__)))


def test_engine_and_pipeline_are_measured_where_a_bundle_is(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    make_bundle(tmp_path / f"{MODEL}-int8")
    config = replace(QUICK, bundles=tmp_path, out=tmp_path / "out")
    assert main(replace(config, steps=("engine", "pipeline"))) == 4
    rows = _rows(tmp_path / "out")
    stand_in = [name for name in rows if rows[name]["state"] == "done"]
    if not machine.gpus():
        assert len(stand_in) == 2, "the engine, and a video through it"
        reasons = {row["reason"] for name, row in rows.items() if "tensorrt" in name}
        assert reasons <= {gpu_steps.NO_GPU, "tensorrt is not installed"}
    engine, video = (rows[name]["figures"] for name in stand_in[-2:])
    assert engine["p95_ms"] >= engine["p50_ms"] > 0 and engine["open_s"] > 0
    assert video["of_engine"] == pytest.approx(video["fps"] / video["fps_engine"])
    assert video["decode_ms"] > 0
    failed = [row for row in rows.values() if row["state"] == "failed"]
    assert failed and all("not a bundle" in row["reason"] for row in failed)
    table = (tmp_path / "out" / "gpu.md").read_text()
    assert all(f"| {name} |" in table.replace("\\", "") for name in rows)
    assert machine.cpu_name() in table and f"torch {machine.version('torch')}" in table


def test_every_step_leaves_whole_files_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def works(found: Figures, limit: float) -> None:
        assert limit == 5
        found["p50_ms"] = 1.5

    def breaks(found: Figures, limit: float) -> None:
        assert _rows(tmp_path)["works"]["figures"] == {"p50_ms": 1.5}, "on disk before this one"
        found["start_s"] = 2.0
        raise LostError("its process was killed by SIGSEGV")

    def interrupted(found: Figures, limit: float) -> None:
        found["p50_ms"] = 3.0
        raise KeyboardInterrupt

    def plan(place: Place) -> Iterator[Step]:
        yield Step("engine", "works", 5, works)
        yield Step("engine", "breaks", 5, breaks)
        yield Step("engine", "cannot", 5, breaks, "no NVIDIA GPU here")
        yield Step("peer", "not asked for", 5, breaks)
        yield Step("engine", "interrupted", 5, interrupted)
        yield Step("engine", "last", 5, works)

    monkeypatch.setattr(gpu, "steps", plan)
    with pytest.raises(KeyboardInterrupt):
        main(replace(QUICK, steps=("engine",), bundles=tmp_path, out=tmp_path))
    found = {name: (row["state"], row["figures"]) for name, row in _rows(tmp_path).items()}
    assert found == {
        "works": ("done", {"p50_ms": 1.5}),
        "breaks": ("failed", {"start_s": 2.0}),
        "cannot": ("not here", {}),
        "interrupted": ("not reached", {"p50_ms": 3.0}),
        "last": ("not reached", {}),
    }
    assert json.loads((tmp_path / "gpu.json").read_bytes())["interrupted"]
    assert "killed by SIGSEGV" in (tmp_path / "gpu.md").read_text()


def test_no_step_begins_when_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[float] = []
    step = Step("engine", "late", 5, lambda found, limit: ran.append(limit))
    monkeypatch.setattr(gpu, "steps", lambda place: [step])
    assert main(replace(QUICK, minutes=0.01, bundles=tmp_path, out=tmp_path)) == 0
    assert not ran and _rows(tmp_path)["late"]["reason"] == "the time was over"


def test_a_step_that_hangs_is_ended_with_its_time(shared_bundle: Path, tmp_path: Path) -> None:
    frames = gpu._frames(tmp_path)
    spec = Spec("benchmarks.cells.engine", shared_bundle, "onnxruntime", 1, frames, tmp_path)
    with pytest.raises(LostError, match="no answer to"), Asked(spec, 4.0) as cell:
        cell.ask("sustained", list[float], seconds=600)


def test_decoding_is_measured_on_the_cpu_and_by_what_opens(tmp_path: Path) -> None:
    assert main(replace(QUICK, steps=("decode",), bundles=tmp_path, out=tmp_path)) == 0
    (row,) = (row for row in _rows(tmp_path).values() if row["state"] == "done")
    assert row["figures"]["cpu fps"] > 0
    for name in HARDWARE:
        works = f"{name} fps" in row["figures"]
        assert works == (name not in row["figures"])
        assert not works or row["figures"][f"{name} levels"] <= LEVELS


def test_the_most_telling_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(512, 1024), (1024, 2048)]
    place = Place(sizes, tmp_path, tmp_path, tmp_path, tmp_path, 1, 2.0, 16, 120)
    for gpus in ((), ("GPU 0",), ("GPU 0", "GPU 1")):
        monkeypatch.setattr(machine, "gpus", lambda gpus=gpus: gpus)
        planned = list(gpu_steps.steps(place))
        names = [step.name for step in planned]
        assert len(set(names)) == len(names) and planned[0].kind == "shipped"
        small, large = ([at for at, name in enumerate(names) if f"{h}x{w}" in name]
                        for h, w in sizes)  # fmt: skip
        assert small[0] < large[0]
        trainings = {s.name.rpartition("training ")[2]: s for s in planned if s.kind == "training"}
        assert (trainings["fp16"].missing is None) == bool(gpus)
        assert (trainings["bf16, 2 processes"].missing is None) == (len(gpus) > 1)
        assert any("cuda graph" in name for name in names) == bool(gpus)


def test_a_training_is_measured(tmp_path: Path) -> None:
    way = "mobilenet_v2:dlse_hed:64x96 fp32 2 1"
    spec = Spec("", tmp_path, "pytorch", 1, tmp_path, tmp_path / "training", way)
    found = Training(spec).train(0.1)
    assert found and found.steps >= 2 and found.images_per_s > 0
    assert math.isfinite(found.first_loss) and math.isfinite(found.last_loss)


@pytest.mark.parametrize("change", [{"sizes": ("16x64",)}, {"sizes": ()}, {"steps": ()}])
def test_senseless_settings_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(HedgeError, match=f"--{next(iter(change))}"):
        Gpu(**change)
