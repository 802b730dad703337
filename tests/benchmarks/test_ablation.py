"""The ablation: rows from results, and trainings that are never repeated."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks import ablation
from benchmarks.ablation import DESIGNS, Ablation
from benchmarks.results import Results
from benchmarks.stats.pairs import Gain
from benchmarks.studies import ablation_runs
from benchmarks.studies.ablation_report import Cost, Report, Result, draw, to_markdown
from runtime.accuracy.metrics import BoundaryF
from runtime.errors import HedgeError
from train.checkpoint import Checkpoint
from train.config import VARIANTS, TrainConfig


@pytest.fixture
def report() -> Report:
    """Two designs, two seeds; the second is better and takes 2 ms longer."""
    results = [
        Result("vanilla", 0, 0.50, 0.30, {"road": 0.9, "pole": None}, 0.49),
        Result("vanilla", 1, 0.52, 0.32, {"road": 0.8, "pole": 0.1}, 0.51),
        Result("dlse", 0, 0.54, 0.40, {"road": 0.9, "pole": 0.2}),
        Result("dlse", 1, 0.54, 0.42, {"road": 0.9, "pole": 0.4}),
    ]
    costs = [
        Cost("vanilla", 3_000_000, 2_000_000_000, 20.0, 10.0),
        Cost("dlse", 3_100_000, 2_000_000_000, 21.0, 12.0),
    ]
    return Report(
        "1 epoch", "blocks, 3 frames", (48, 64), 3, results, costs, "timed", {"cpu": "a CPU"}
    )


def test_gains_are_means_over_seeds_against_the_first_design(report: Report) -> None:
    vanilla, dlse = report.rows()
    assert (vanilla.miou, vanilla.miou_spread) == pytest.approx((51, 1))
    assert vanilla.gained == Gain(2, 0, 0, 0) and vanilla.gained_a_ms is None
    assert (dlse.seeds, dlse.miou, dlse.boundary_f) == (2, pytest.approx(54), pytest.approx(41))
    assert dlse.gained is not None and dlse.gained_a_ms == pytest.approx(1.5)
    assert (dlse.gained.mean, dlse.gained.low) == pytest.approx((3, 3 - 12.706), abs=1e-3)
    assert dlse.boundary_f_gained is not None and dlse.int8_gained is None
    assert astuple(dlse.boundary_f_gained) == pytest.approx((2, 10, 10, 10))


def test_gains_are_of_seeds_that_both_have(report: Report) -> None:
    alone = replace(report, results=(*report.results[:3], replace(report.results[3], seed=7)))
    gained = alone.rows()[1].gained
    assert gained is not None and (gained.mean, gained.low) == (pytest.approx(4), None)
    strange = replace(report, results=(*report.results[:2], replace(report.results[3], seed=7)))
    assert strange.rows()[1].gained is None and strange.rows()[1].gained_a_ms is None
    assert "| dlse | 0 | – | – | – |" in to_markdown(strange).splitlines()


def test_the_tables_and_the_picture_show_every_design(report: Report, tmp_path: Path) -> None:
    lines = to_markdown(report).splitlines()
    dlse = [line for line in lines if line.startswith("| dlse |")]
    assert "| 54.00 | 0.00 | 41.00 | – | 3.10 | 2.00 | 21.0 | 12.0 | +1.50 |" in dlse[0]
    assert dlse[1].startswith(
        "| dlse | 2 | +3.00 (-9.71 to +15.71) | +10.00 (+10.00 to +10.00) | – |"
    )
    assert dlse[2] == "| dlse | 90.0 | 30.0 |"
    assert "vary by 1.41 points (standard deviation), so that 10 pairs tell 1.5 points" in lines[-1]
    assert "| vanilla | 85.0 | 10.0 |" in lines, "a class that a seed never met counts once"
    report.save(tmp_path)
    assert cv2.imread(str(tmp_path / "ablation.png")).shape[1] > 600
    assert (tmp_path / "ablation.md").read_text().splitlines() == lines
    found = Report.load(tmp_path)
    assert found is not None and found.rows() == report.rows()


def test_labels_without_boundaries_have_no_boundary_f(report: Report, tmp_path: Path) -> None:
    """As of data sets that leave a band around every object unlabelled."""
    without = [replace(result, boundary_f=None) for result in report.results]
    replace(report, results=without).save(tmp_path)
    found = Report.load(tmp_path)
    assert found is not None and found.rows()[1].boundary_f is None
    dlse = [line for line in to_markdown(found).splitlines() if line.startswith("| dlse |")]
    assert dlse[0].startswith("| dlse | 2 | 54.00 | 0.00 | – | – | 3.10 |")


def test_a_training_on_labels_without_boundaries_is_judged(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundaryF, "mean", lambda _: math.nan)
    settings = {"epochs": 1, "batch": 2, "amp": False}
    config = Ablation(
        train=replace(tiny_config(tmp_path), **settings), designs=("vanilla",), seeds=(0,),
        time=False, runs=tmp_path / "runs", out=tmp_path / "results",
    )  # fmt: skip
    ablation.main(config)
    found = Report.load(config.out)
    assert found is not None and found.results[0].boundary_f is None


def test_designs_that_were_not_timed_have_no_price(report: Report) -> None:
    row = replace(report, costs=report.costs[:1]).rows()[1]
    assert row.gained is not None and row.gained_a_ms is None
    assert "| – | – | – | – | – |" in to_markdown(replace(report, costs=()))


def test_the_picture_shows_designs_before_anything_is_timed(report: Report, tmp_path: Path) -> None:
    def coloured(shown: Report) -> int:
        draw(shown, tmp_path / "p.png")
        image = cv2.imread(str(tmp_path / "p.png")).astype(int)
        return int((np.ptp(image, axis=2) > 50).sum())

    assert coloured(replace(report, results=(), costs=())) == 0
    assert coloured(replace(report, costs=())) > 100
    assert coloured(replace(report, costs=report.costs[:1])) > 50


def test_a_damaged_report_is_named(tmp_path: Path) -> None:
    for content in ("{", '{"": ' + "[" * 10_000):
        (tmp_path / "ablation.json").write_text(content)
        with pytest.raises(HedgeError, match=r"ablation.json: not a report of the ablation"):
            Report.load(tmp_path)
        with pytest.raises(HedgeError, match=r"ablation.json: not a report.json"):
            Results.load(tmp_path / "ablation.json")
    assert Report.load(tmp_path / "elsewhere") is None


def test_every_variant_is_a_design() -> None:
    assert {design.variant for design in DESIGNS.values()} == set(VARIANTS)


def test_finished_trainings_are_not_repeated_and_stopped_ones_go_on(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    shared = replace(tiny_config(tmp_path), epochs=2)
    config = Ablation(train=shared, designs=("vanilla", "dlse"), seeds=(3,), runs=tmp_path)
    first, second = ablation_runs._runs(config)
    assert [run.run.name for run in (first, second)] == ["vanilla-3", "dlse-3"]
    assert (first.variant, second.variant, first.seed) == ("vanilla", "dlse", 3)
    ablation_runs._train(replace(first, until=1))
    assert not ablation_runs._is_finished(first)
    ablation_runs._train(first)
    assert ablation_runs._is_finished(first) and not ablation_runs._is_finished(second)
    written = (first.run / "last.pt").stat().st_mtime_ns
    ablation_runs._train(first)
    assert (first.run / "last.pt").stat().st_mtime_ns == written
    with pytest.raises(HedgeError, match=r"other settings \(lr 0\.003 → 0\.5\)"):
        ablation_runs._is_finished(replace(first, lr=0.5))


def test_results_are_enough_to_go_on_and_those_of_others_are_kept(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 1, "lr": 5e-3, "batch": 2, "amp": False}
    shared = replace(tiny_config(tmp_path), **settings)
    config = Ablation(
        train=shared, designs=("vanilla",), seeds=(0,), rounds=1, threads=1,
        runs=tmp_path / "runs", out=tmp_path / "results",
    )  # fmt: skip
    iou = {"blue": 0.9, "green": 0.5, "red": None}
    theirs = Result("vanilla", 1, 0.5, 0.3, iou)
    train = ablation_runs._train

    def meanwhile(run: TrainConfig) -> None:
        train(run)
        replace(ablation_runs._known(config), results=[theirs]).save(config.out)

    monkeypatch.setattr(ablation_runs, "_train", meanwhile)
    ablation.main(config)
    found = Report.load(config.out)
    assert found is not None
    [result, other], [cost] = found.results, found.costs
    assert (result.design, result.seed, other) == ("vanilla", 0, theirs)
    last = Checkpoint.load(config.runs / "vanilla-0" / "last.pt")
    assert result.miou == pytest.approx(last.miou, abs=0.02) and result.int8_miou is not None
    assert cost.parameters > 1e5 and cost.fp32_ms > 0
    shutil.rmtree(config.runs)
    ablation.main(replace(config, time=False))
    assert not config.runs.exists(), "nothing was trained again"
    assert Report.load(config.out) == found
    with pytest.raises(HedgeError, match="holds results of another schedule"):
        ablation.main(replace(config, train=replace(shared, epochs=2)))
    with pytest.raises(HedgeError, match=r"float32, aux weight 0\.4\)"):
        ablation.main(replace(config, train=replace(shared, aux_weight=0.4)))
    monkeypatch.setattr(ablation_runs, "half_precision", lambda _: torch.float16)
    with pytest.raises(HedgeError, match=r"float32, not .* float16\)"):
        ablation.main(replace(config, train=replace(shared, amp=True)))


def test_wrong_rows_and_empty_reports_are_named(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(HedgeError, match="--designs dlse_ved: not one of vanilla, dlse"):
        ablation.main(Ablation(designs=("dlse_ved",)))
    empty = Ablation(
        train=tiny_config(tmp_path), runs=tmp_path, out=tmp_path / "results", report_only=True
    )
    with pytest.raises(HedgeError, match="no finished training"):
        ablation.main(empty)
