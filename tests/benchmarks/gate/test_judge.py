"""The gate finds what became worse, and nothing inside the noise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gate.judge import Verdict, judge, parse
from benchmarks.results import Results
from benchmarks.stats.bootstrap import ratio
from runtime.errors import GateError, HedgeError
from tests.benchmarks.runs import CELL, accuracy, bundle, changed, results, slowed, timing

RULE = "latency > 1.10 or miou < -0.5"


def verdict(now: Results, baseline: Results, rule: str = RULE) -> Verdict:
    return judge(now, baseline, parse(rule))


def failing(found: Verdict) -> set[str]:
    """The cells that failures name."""
    return {failure.split(":")[0] for failure in found.failures}


def test_a_run_passes_against_itself_and_says_so() -> None:
    run = results()
    found = verdict(run, run)
    assert found.passed and found.judged == 12
    assert str(found) == f"gate passed: none of 12 cells meets {RULE.replace('1.10', '1.1')}"
    found.require()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("peers", [True, False])
def test_ten_more_runs_on_a_machine_that_changes_pass(seed: int, peers: bool) -> None:
    again = slowed(results(seed=10_000 * (seed + 1), peers=peers), 0.7 + 0.08 * seed)
    assert verdict(again, results(peers=peers), "latency > 1.05 or p95 > 1.1").passed


@pytest.mark.parametrize("machine", [0.6, 1.0, 1.7])
@pytest.mark.parametrize("peers", [True, False])
def test_a_bundle_slowed_by_a_fifth_fails_alone(machine: float, peers: bool) -> None:
    now = slowed(slowed(results(seed=5000, peers=peers), machine), 1.2, CELL)
    found = verdict(now, results(peers=peers))
    assert failing(found) == {CELL}
    assert "latency > 1.1: " in found.failures[0]
    assert f"while the machine took {machine:.1f}" in found.failures[0]
    with pytest.raises(GateError, match=CELL):
        found.require()


@pytest.mark.parametrize("peers", [True, False])
def test_one_bundle_of_two_cannot_hide_behind_the_other(peers: bool) -> None:
    base = results(("vanilla", "dlse"), ("openvino",), peers=peers)
    two = replace(base, cells=[c for c in base.cells if "int8" in c.name or c.kind == "peer"])
    found = verdict(slowed(two, 1.2, CELL), two)
    assert failing(found) == {CELL}
    took = "1.00" if peers else "1.00 to 1.20"  # each bundle is told by the other
    assert f"the machine took {took}× as long" in " ".join(found.notes)


def test_a_slower_network_cannot_hide_behind_its_own_peers() -> None:
    """PyTorch runs the same weights: when they take longer, so does PyTorch."""
    base = results(("dlse",))
    larger = slowed(base, 1.2)
    larger = replace(larger, cells=[replace(c, multiply_adds=4_000) for c in larger.cells])
    found = verdict(larger, base)
    assert not failing(found), "all that there is slowed down alike"
    assert "would not show" in " ".join(found.notes)
    beside = results(("vanilla",), peers=False).cells
    found = verdict(
        replace(larger, cells=[*larger.cells, *beside]), replace(base, cells=[*base.cells, *beside])
    )
    assert failing(found) == {cell.name for cell in larger.cells if cell.kind == "bundle"}


@pytest.mark.parametrize("busy", ["baseline", "now"])
def test_pytorch_on_a_busy_machine_tells_nothing_of_it(busy: str) -> None:
    """Its threads wait for each other by spinning: it took 40 times as long, the engines twice."""
    base = results()
    names = [cell.name for cell in base.cells if cell.backend == "pytorch"]
    hurt = slowed(replace(slowed(base, 2.0), others=1.1), 20.0, *names)
    now, before = (hurt, base) if busy == "now" else (base, hurt)
    assert verdict(now, before).passed
    found = verdict(slowed(now, 1.5, CELL), before)
    assert failing(found) == {CELL}
    said = "other processes took 1.1 of 2 cores while cells were timed"
    assert any("PyTorch does not tell" in note and said in note for note in found.notes)


def test_bare_cells_of_the_same_bundle_do_not_tell_the_machine() -> None:
    base = results(("dlse",), ("openvino",), peers=False)
    int8 = [cell for cell in base.cells if cell.name == CELL]
    bare = replace(int8[0], name=f"bare {CELL}", kind="bare")
    alone = replace(base, cells=[*int8, bare])
    found = verdict(slowed(alone, 1.2), alone)
    assert failing(found) == {CELL}
    assert "compared as they are" in " ".join(found.notes)


def test_no_failure_inside_the_noise() -> None:
    base = results()
    few = {"timing": timing(10.0, 1, noise=0.4, rounds=12)}
    more = {"timing": timing(11.5, 2, noise=0.4, rounds=12)}
    found = verdict(changed(base, {CELL: more}), changed(base, {CELL: few}))
    assert found.passed
    [unsure] = [note for note in found.notes if CELL in note]
    assert "not beyond the noise: a longer --budget tells" in unsure
    assert not any("--budget" in note for note in verdict(base, base).notes)
    found = verdict(
        changed(base, {CELL: {**more, "peak_mb": 440.0}}),
        changed(base, {CELL: {**few, "peak_mb": 400.0}}),
        "latency > 1.1 and memory > 1.05",
    )
    [unsure] = [note for note in found.notes if CELL in note]
    assert unsure.startswith(f"{CELL}: latency"), "memory is known exactly"
    many = {"timing": timing(11.5, 2, noise=0.02, rounds=400)}
    assert failing(verdict(changed(base, {CELL: many}), base)) == {CELL}


@pytest.mark.parametrize(("lost", "fails"), [(0.004, False), (0.005, False), (0.01, True)])
def test_accuracy_is_compared_as_it_is(lost: float, fails: bool) -> None:
    now = changed(results(), {CELL: {"accuracy": accuracy(0.678 - lost)}})
    assert verdict(now, results()).passed != fails


def test_a_pixel_of_a_class_that_no_label_holds_is_no_lost_accuracy() -> None:
    """The baseline never answered "tunnel"; in the mean over one class more it costs 17 points."""
    before = accuracy(0.678)
    stray = replace(before, miou=0.509, iou={**before.iou, "tunnel": 0.0})
    assert verdict(changed(results(), {CELL: {"accuracy": stray}}), results()).passed
    now, base = ({CELL: {"accuracy": one}} for one in (accuracy(0.66), stray))
    assert failing(verdict(changed(results(), now), changed(results(), base))) == {CELL}


def test_p95_and_memory_and_boundaries() -> None:
    base = results()
    tail = bundle("dlse", "int8", "openvino", 3).timing
    assert tail
    slow = [ms * 2 if number % 4 == 0 else ms for number, ms in enumerate(tail.samples)]
    worse = {
        "timing": replace(tail, p95=2 * tail.p95, samples=slow),
        "peak_mb": 260.0,
        "accuracy": replace(accuracy(0.678), boundary_f=0.55),
    }
    now = changed(base, {CELL: worse})
    found = verdict(now, base, "p95 > 1.5 and memory >= 1.3 and boundary_f < -2")
    assert [failure.split(": ")[1] for failure in found.failures] == [
        "p95 > 1.5", "memory >= 1.3", "boundary_f < -2",
    ]  # fmt: skip
    assert verdict(now, base, "latency > 1.1 or memory > 1.3").passed
    assert verdict(now, base, "latency > 1.1 and memory > 1.2").passed


def test_what_is_not_measured_any_more_fails() -> None:
    base = results()
    broken = {"timing": None, "accuracy": None, "error": "crashed: signal 11"}
    found = verdict(changed(base, {CELL: broken}), base)
    assert found.failures == [f"{CELL}: measured in the baseline, but now: crashed: signal 11"]
    unlabelled = changed(base, {CELL: {"accuracy": None}})
    found = verdict(unlabelled, base)
    assert found.failures == [f"{CELL}: its mIoU is in the baseline, but was not measured now"]
    assert verdict(unlabelled, base, "latency > 1.1").passed
    found = verdict(changed(base, {CELL: broken}), changed(base, {CELL: broken}))
    assert found.passed and found.judged == 11, "what broke in both was not judged"


def test_new_and_gone_bundles_are_no_failures() -> None:
    assert verdict(results(), results(("dlse",))).judged == 6
    found = verdict(results(("dlse",)), results())
    assert found.passed and "vanilla-fp32 openvino" in " ".join(found.notes)


def test_another_machine_is_said() -> None:
    base = results()
    other = replace(base, machine=base.machine | {"cpu": "another", "gpus": ["L4"]})
    found = verdict(replace(base, machine=base.machine | {"gpus": ("L4", "L4")}), other)
    assert {"CPU: another in the baseline, a CPU now", "GPUs: L4 in the baseline, L4, L4 now"} <= {
        *found.notes
    }
    upgraded = base.machine | {"versions": {"openvino": "2026.4", "torch": "2.9"}}
    found = verdict(replace(base, machine=upgraded), base)
    assert {
        "openvino: 2026.1 in the baseline, 2026.4 now", "torch: none in the baseline, 2.9 now",
    } <= {*found.notes}  # fmt: skip
    same = replace(base, machine=base.machine | {"gpus": ()})
    assert not any(note.startswith(("CPU", "GPUs")) for note in verdict(same, base).notes)


def test_what_cannot_be_compared_is_one_line() -> None:
    base = results()
    with pytest.raises(HedgeError, match="no bundle of this run is in it"):
        verdict(results(("other",)), base)
    with pytest.raises(HedgeError, match=r"accuracy on elsewhere, in this run on blocks \(val\)"):
        verdict(base, replace(base, data="elsewhere"))
    fewer = {CELL: {"accuracy": replace(accuracy(0.678), frames=5)}}
    with pytest.raises(HedgeError, match="scored on 20 frames, in this run on 5"):
        verdict(changed(base, fewer), base)
    assert verdict(changed(base, fewer), base, "latency > 1.1").passed
    more = replace(accuracy(0.6), iou=accuracy(0.678).iou | {"tram": 0.3})  # in the mean as well
    other = changed(base, {CELL: {"accuracy": more}})
    for now, before in ((other, base), (base, other)):
        with pytest.raises(HedgeError, match=r"other classes than in this run, .* tram"):
            verdict(now, before)
    unlabelled = replace(base, cells=[replace(c, accuracy=None) for c in base.cells])
    with pytest.raises(HedgeError, match="the baseline holds no miou"):
        verdict(base, unlabelled)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("1.1 < latency", "latency > 1.1"),
        (" -0.5>=miou ", "miou <= -0.5"),
        ("(p95>2 or memory>3) and miou < 0", "(p95 > 2 or memory > 3) and miou < 0"),
        ("p95>2 or memory>3 and miou < 0", "p95 > 2 or (memory > 3 and miou < 0)"),
    ],
)
def test_rules_are_read(text: str, read: str) -> None:
    assert str(parse(text)) == read
    assert str(parse(read)) == read


@pytest.mark.parametrize(
    "text",
    [
        "", "latency", "latency >", "speed > 1", "latency > p95", "latency == 1", "1 < 2",
        "not latency > 1", "0 < miou < 1", "latency > 1 + 1", "latency > True", "latency > 1e999",
        "latency > 1j", "latency > '1'", "__import__('os').system('false')", "latency() > 1",
        "latency > 1; miou", "lambda: latency", "latency > 1 if p95 else 2",
        "latency > " + "9" * 500,
        "(" * 900, "latency > 1 or " * 90 + "miou < 0", "miou > 0\0", "latency > --1",
    ],
)  # fmt: skip
def test_other_rules_are_refused_in_one_line_that_lists_the_names(text: str) -> None:
    with pytest.raises(HedgeError, match="compare latency, p95, miou, boundary_f, memory with"):
        parse(text)


@given(st.text(max_size=40) | st.text("latencymiou<>=-.0123456789()andor ", max_size=40))
def test_no_text_is_more_than_refused(text: str) -> None:
    try:
        assert str(parse(str(parse(text)))) == str(parse(text))
    except HedgeError as error:
        assert "--fail-if" in str(error)


def test_ratios_of_one_run_share_its_rounds() -> None:
    drifting = timing(10.0, 1, noise=0.5)
    twice = replace(drifting, p50=2 * drifting.p50, samples=[2 * ms for ms in drifting.samples])
    found = ratio(twice, drifting)
    assert (found.low, found.high) == pytest.approx((2, 2))
    other = timing(20.0, 2, noise=0.5)
    assert ratio(other, drifting).high - ratio(other, drifting).low > 0.1
    kept = [replace(one, samples=()) for one in (other, drifting)]
    assert ratio(*kept).low == other.low / drifting.high
