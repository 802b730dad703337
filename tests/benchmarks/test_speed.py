"""The table of speeds: real exports of an untrained model, PyTorch and every engine in turn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import speed
from benchmarks.report.view import derive
from benchmarks.results import YARDSTICK, Results
from benchmarks.run.plan import Shared
from benchmarks.speed import Speed, main
from benchmarks.studies.case import Case
from runtime.backends.registry import BACKENDS, installed_backends
from runtime.errors import HedgeError
from tests.benchmarks import runs
from train.device import cpu_has_bf16

ENGINES = [name for name in installed_backends() if BACKENDS[name].device == "cpu"]
NETWORK = "timm/test_resnet"  # the smallest that there is
NAME = NETWORK.replace("/", "-")
MODEL = f"{NAME}-dlse_hed-64x96"
VARIANTS = ("vanilla", "dlse", "dlse_hed", "dlse_hed-lite")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Speed:
    """The smallest run there is; its bundles are made once for all tests here."""
    out = tmp_path_factory.mktemp("speed")
    return Speed((f"{NETWORK}:64x96",), ("fp32",), rounds=2, threads=1, out=out)


@pytest.fixture(scope="module")
def results(config: Speed) -> Results:
    """What a whole run writes."""
    main(config)
    return Results.load(config.out / "report.json")


def test_every_engine_and_precision_is_timed_beside_pytorch(results: Results) -> None:
    named = {(c.kind, c.model, c.backend, c.way): c for c in results.cells}
    ways = [YARDSTICK, "pytorch fp32", *["pytorch bf16 channels_last"] * cpu_has_bf16()]
    expected = {("peer", MODEL, "pytorch", way) for way in ways}
    for engine in ENGINES:
        expected.add(("bare", MODEL, engine, "loop + tail"))
        for variant in VARIANTS:
            expected.add(("bundle", f"{NAME}-{variant}-64x96", engine, ""))
    assert named.keys() == expected and {cell.precision for cell in results.cells} == {"fp32"}
    for cell in results.cells:
        assert cell.error is None and cell.timing and len(cell.timing.samples) == 2, cell.name
        assert (cell.arrival, cell.accuracy, cell.joules) == (None, None, None), "times, no more"
        assert cell.gflops and cell.gflops > 0
    assert results.threads == 1
    yardstick = named["peer", MODEL, "pytorch", YARDSTICK].timing
    for row in derive(replace(results, others=0.0)).rows:
        if row.cell.model == MODEL:
            assert row.faster and row.cell.timing and yardstick
            assert row.faster.value == pytest.approx(yardstick.p50 / row.cell.timing.p50)


def test_a_run_interrupted_while_it_exports_tells_what_was_timed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = iter([(runs.results(), False)])

    def timed(*_: object) -> tuple[Results, bool]:
        if found := next(parts, None):
            return found
        raise KeyboardInterrupt

    monkeypatch.setattr(speed, "timed", timed)
    with pytest.raises(KeyboardInterrupt):
        main(Speed((f"{NETWORK}:64x96", f"{NETWORK}:96x128"), ("fp32",), out=tmp_path))
    found = Results.load(tmp_path / "report.json")
    assert len(found.cells) == len(runs.results().cells)
    assert any(note.startswith("interrupted") for note in found.notes)


def test_costs_are_shares_of_the_frame(results: Results) -> None:
    costs = derive(results).costs
    parts = {
        "SE": "dlse", "edges": "dlse_hed", "edges of HED lite": "dlse_hed-lite",
        "our code": "dlse_hed",
    }  # fmt: skip
    assert {(one.part, one.whole.cell.model, one.whole.cell.backend) for one in costs} == {
        (part, f"{NAME}-{variant}-64x96", engine)
        for engine in ENGINES
        for part, variant in parts.items()
    }
    for one in costs:
        assert one.whole.cell.precision == one.rest.cell.precision == "fp32"
        assert one.share.value == pytest.approx(1 - one.rest.p50 / one.whole.p50)
        assert one.share.low <= one.share.value <= one.share.high < 1


def test_the_report_holds_every_row(results: Results, config: Speed) -> None:
    lines = (config.out / "report.md").read_text().splitlines()
    shown = [cell for cell in results.cells if cell.kind != "bare"]
    tables = [line for line in lines if line.startswith("| ") and "---" not in line]
    assert len(tables) == 2 + len(shown) + 4 * len(ENGINES), "heads, cells, costs"
    assert "random weights" in lines[-1]
    assert "What SE, edges and our code cost" in (config.out / "report.html").read_text()


def test_bundles_are_exported_once(results: Results, config: Speed, tmp_path: Path) -> None:
    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in config.out.rglob("model.onnx")}

    before, shared = written(), Shared(1, tmp_path / "frames.json", tmp_path)
    planned = list(speed._planned([Case(NETWORK, "dlse_hed", (64, 96))], config, shared))
    assert written() == before and len(before) == len(VARIANTS)
    assert [p.cell.name for p in planned] == [cell.name for cell in results.cells]


def test_slow_engines_are_left_out_unless_asked_for() -> None:
    assert "onnxruntime" not in speed._backends("fp16", Speed())
    assert speed._backends("fp16", Speed(slow=True)) == speed._backends("int8", Speed()) == ENGINES


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("resnet50:512x1024", Case("resnet50", "dlse_hed", (512, 1024))),
        ("resnet18:vanilla:64x96", Case("resnet18", "vanilla", (64, 96))),
        (
            "mobilenet_v2:dlse_hed-lite-narrow:64x96",
            Case("mobilenet_v2", "dlse_hed", (64, 96), "lite", "narrow"),
        ),
    ],
)
def test_a_case_is_written_in_a_word(text: str, case: Case) -> None:
    assert Case.parse(text) == case


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("resnet50", "write BACKBONE:HEIGHTxWIDTH"),
        ("vgg:64x96", "vgg is none of"),
        ("resnet50:unet:64x96", "unet is none of"),
        ("resnet50:dlse_hed-canny:64x96", "canny is none of"),
        ("dlse:resnet50:64x96", "dlse is none of"),
        ("resnet50:16x96", "at least 32x32"),
    ],
)
def test_a_wrong_case_is_one_error(text: str, complaint: str) -> None:
    with pytest.raises(HedgeError, match=complaint):
        Case.parse(text)


@pytest.mark.parametrize("change", [{"cases": ()}, {"precisions": ()}, {"rounds": 0}])
def test_senseless_settings_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(HedgeError, match=f"--{next(iter(change))}"):
        Speed(**change)
