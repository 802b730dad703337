"""The plain words are computed from the cells, and claim nothing that is not proved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.report.sentences import WIDE, words
from benchmarks.report.tables import COLUMNS, tabulate
from benchmarks.report.view import derive
from benchmarks.results import YARDSTICK, YARDSTICKS, Results
from tests.benchmarks.runs import (
    CELL,
    accuracy,
    bundle,
    changed,
    peer,
    results,
    slowed,
    timing,
    with_bare,
)


def verdict(run: Results) -> str:
    """The headline."""
    return words(derive(run)).headline


def sentences(run: Results) -> list[str]:
    """The plain words."""
    return list(words(derive(run)).sentences)


def failures(run: Results) -> list[str]:
    """What was not measured, whoever it is."""
    found = words(derive(run))
    return [*found.failures, *found.notes]


def test_the_verdict_is_computed_from_the_cells() -> None:
    assert (
        verdict(results()) == "INT8 on OpenVINO: 8.0× faster than PyTorch, 0.2 points of mIoU lost"
    )
    better = {CELL: {"accuracy": accuracy(0.70)}}
    assert verdict(changed(results(), better)).endswith("2.0 points of mIoU gained")
    same = {CELL: {"accuracy": accuracy(0.6804)}}
    assert verdict(changed(results(), same)).endswith(", no mIoU lost")
    slow = slowed(results(("dlse",)), 20, "int8", "fp16", "fp32 openvino", "fp32 onnx")
    assert "slower than PyTorch" in verdict(slow)
    alone = results(("dlse",), ("openvino",), peers=False)
    assert verdict(alone).startswith("INT8 on OpenVINO: 1")
    assert verdict(alone).endswith("ms a frame, 0.2 points of mIoU lost against FP32")


def test_differences_inside_the_noise_are_not_claimed() -> None:
    run = results(("dlse",))
    base = next(cell for cell in run.cells if cell.way == YARDSTICK)
    cells = [c for c in run.cells if c.kind == "peer"] + [
        bundle("dlse", "int8", "openvino", 1, timing=timing(79.0, 5, noise=0.4)),
        bundle("dlse", "fp16", "openvino", 2, timing=timing(80.0, 6, noise=0.4)),
    ]
    noisy = replace(base, timing=timing(80.0, 7, noise=0.4))
    cells = [noisy if cell.name == base.name else cell for cell in cells]
    said = [verdict(replace(run, cells=cells)), *sentences(replace(run, cells=cells))]
    assert "as fast as PyTorch (the difference is inside the noise)" in said[0]
    assert any("INT8 against FP16 is inside the noise for dlse" in line for line in said)
    assert any(line.startswith("Fastest: ") and "cannot be told from it" in line for line in said)
    assert not any("faster" in line for line in said)


def test_sentences_tell_what_matters() -> None:
    said = "\n".join(sentences(with_bare(results())))
    for line in (
        "dlse INT8 on OpenVINO takes 10.",
        "8.0× faster than PyTorch, 0.2 points of mIoU lost.",
        "In OpenVINO, INT8 is ",
        "Our engine against the bare library: +1.0 % of a frame.",
        "With frames arriving at 30 Hz, 8 of 12 drop none",
    ):
        assert line in said
    worse = {CELL: {"accuracy": replace(accuracy(0.66), iou={**accuracy(0.68).iou, "car": 0.5})}}
    assert "The class that INT8 costs most: car in dlse INT8 on OpenVINO, 18.0 points" in "\n".join(
        sentences(changed(results(), worse))
    )


def test_an_engine_that_fails_throughout_is_one_line() -> None:
    run = results(("vanilla", "dlse"), ("openvino", "tensorrt"))
    dead = {c.name: {"error": "no driver"} for c in run.cells if c.backend == "tensorrt"}
    assert failures(changed(run, dead)) == ["TensorRT: not measured, because no driver"]
    one = {"dlse-fp16 openvino": {"error": "crashed"}, "vanilla-int8 openvino": {"error": "hung"}}
    assert failures(changed(run, one)) == [
        "vanilla INT8 on OpenVINO: not measured, because hung",
        "dlse FP16 on OpenVINO: not measured, because crashed",
    ]


def test_peers_that_fail_for_one_reason_are_one_line() -> None:
    run = results(("dlse",))
    dead = {c.name: {"error": "no checkpoint"} for c in run.cells if c.kind == "peer"}
    assert failures(changed(run, dead)) == ["all peers: not measured, because no checkpoint"]


def test_a_camera_that_nothing_keeps_up_with_and_a_cost_that_is_noise() -> None:
    full = with_bare(results())
    late = {c.name: {"arrival": replace(c.arrival, dropped=0.1)} for c in full.cells if c.arrival}
    noisy = {f"{CELL} (loop + tail)": {"timing": timing(7.6, 9, noise=0.5)}}
    said = sentences(changed(full, late | noisy))
    assert "With frames arriving at 30 Hz, all drop some." in said
    assert any(line.startswith("Our engine against the bare library: inside the") for line in said)


def test_a_wide_interval_is_the_headline() -> None:
    run = results(("dlse",))
    base = next(cell for cell in run.cells if cell.way == YARDSTICK)
    wide = changed(run, {base.name: {"timing": timing(80.0, 3, noise=0.9, rounds=15)}})
    found = derive(wide).best
    assert found and found.faster and found.faster.high > WIDE * found.faster.low
    span = f"{found.faster.low:.1f}–{found.faster.high:.1f}×"
    assert verdict(wide).startswith(f"INT8 on OpenVINO: {span} faster than PyTorch")
    assert any(f"{span} faster than PyTorch" in line for line in sentences(wide))
    assert "8.0× faster" in verdict(run), "a narrow one is a number"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"others": 1.1}, "other processes took 1.1 of 2 cores while cells were timed"),
        ({"threads": 8}, "8 threads shared 2 cores, where PyTorch's wait busily"),
        ({"machine": {"cores": 64, "granted_cores": 1.5}}, "2 threads shared 1.5 cores, where"),
    ],
)
def test_on_a_busy_machine_no_speed_up_is_claimed(change: dict[str, Any], why: str) -> None:
    """PyTorch takes 280 ms there where it takes 80 alone, round for round: no interval tells."""
    run = slowed(results(("dlse",)), 3.5, "pytorch")
    assert "28" in verdict(run)
    busy = replace(run, **change)  # type: ignore[arg-type]
    assert verdict(busy) == "INT8 on OpenVINO: 10.2 ms a frame, 0.2 points of mIoU lost"
    said = sentences(busy)
    assert said[0].startswith(f"How much faster than PyTorch cannot be told: {why}")
    assert not any("faster than PyTorch" in line for line in said[1:])
    (column,) = (column for column in COLUMNS if column.head == "× PyTorch")
    assert not any(map(column.shows, derive(busy).rows)), "nor does any table claim it"
    for harmless in ({"others": 0.05}, {"others": 1.1, "threads": 1}):  # one waits for nobody
        assert verdict(replace(run, **harmless)) == verdict(run)  # type: ignore[arg-type]


def test_a_container_with_a_quota_is_told_by_what_it_gets() -> None:
    run = results(("dlse",))
    for facts, cores in (
        ({"cores": 64, "granted_cores": 1.5}, "64 cores, time of 1.5 granted; 2 threads"),
        ({"cores": 2, "granted_cores": 2.0}, "2 cores; 2 threads"),
    ):
        assert cores in tabulate(derive(replace(run, machine=facts))).footer


def test_what_se_edges_and_our_code_cost() -> None:
    run = with_bare(results(("vanilla", "dlse", "dlse_hed"), ("openvino",), peers=False))
    heavier = slowed(slowed(run, 1.1, "dlse-", "dlse_hed"), 2, "dlse_hed")
    found = {(one.part, one.whole.cell.name): one for one in derive(heavier).costs}
    assert found.keys() == {
        *((part, f"{variant}-{precision} openvino")
          for part, variant in (("SE", "dlse"), ("edges", "dlse_hed"))
          for precision in ("fp32", "fp16", "int8")),
        ("our code", CELL),
    }  # fmt: skip
    for (part, _), cost in found.items():
        share = {"SE": 1 - 1 / 1.1, "edges": 0.5, "our code": 0.01}[part]
        assert cost.share.value == pytest.approx(share, abs=0.01)
        assert cost.share.low <= cost.share.value <= cost.share.high


def test_a_gpu_is_held_against_pytorch_on_the_same_gpu() -> None:
    run = results(("dlse",), ("openvino", "tensorrt"))
    cells = [replace(c, device="cuda") if c.backend == "tensorrt" else c for c in run.cells]
    ways = {row.cell.backend: row.yardstick for row in derive(replace(run, cells=cells)).rows}
    assert ways["tensorrt"] is None and ways["openvino"] and ways["openvino"].way == YARDSTICK
    cells.append(peer(YARDSTICKS["cuda"], "dlse", 20.0, seed=1, device="cuda"))
    for row in derive(replace(run, cells=cells)).rows:
        assert row.yardstick and row.yardstick.device == row.cell.device
        if row.cell.timing and row.cell.backend == "tensorrt":
            assert row.faster and row.faster.value < 2.5
