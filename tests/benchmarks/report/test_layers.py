"""Where a frame goes in the engine: shares of the machine's limits, in all forms of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.report.page import write
from benchmarks.report.tables import tabulate
from benchmarks.report.view import View, derive
from benchmarks.results import Layers
from tests.benchmarks.runs import results

LAYERS = (
    Layers("convolution 1×1", 30, 5.0, {"int8": 10**9}, 10**7),
    Layers("depthwise", 9, 3.0, {"int8": 10**8, "bf16": 10**8}, 10**8),
    Layers("resize", 4, 2.0, {}, 4 * 10**7),
)


def view(ceilings: dict[str, float]) -> View:
    """Of a run in which every bundle has the same layers."""
    run = results(["dlse"])
    cells = [replace(c, layers=LAYERS) if c.kind == "bundle" else c for c in run.cells]
    return derive(replace(run, cells=cells, ceilings=ceilings))


def test_shares_of_the_limits() -> None:
    found = view({"int8": 1000.0, "bf16": 250.0, "memory": 50.0}).layers
    assert [(one.row.cell.precision, one.row.cell.backend) for one in found[::4]] == [
        ("int8", "openvino"), ("int8", "onnxruntime")
    ]  # fmt: skip
    flat, deep, resize, everything = found[:4]
    assert (flat.ms, flat.part, flat.gflops) == pytest.approx((5.0, 0.5, 400))
    assert (flat.of_arithmetic, flat.gbs, flat.of_memory) == pytest.approx((0.4, 2, 0.04))
    assert deep.of_arithmetic == pytest.approx((0.2 + 0.8) / 3), "each product in its arithmetic"
    assert resize.gflops is None is resize.of_arithmetic and resize.of_memory == pytest.approx(0.4)
    assert (everything.kind, everything.nodes, everything.part) == ("all", 43, 1)
    assert everything.of_arithmetic == pytest.approx((2.2 + 0.8) / 10)
    assert everything.gbs == pytest.approx(15)


def test_without_a_ceiling_no_share_of_it_is_told() -> None:
    found = view({"int8": 1000.0}).layers
    assert [one.of_arithmetic for one in found[:4]] == [pytest.approx(0.4), None, None, None]
    assert all(one.of_memory is None for one in found)


def test_every_form_of_the_report_has_them(tmp_path: Path) -> None:
    told = view({"int8": 1000.0, "bf16": 250.0, "memory": 50.0})
    lines = tabulate(told).layers
    assert lines[1][2:] == ("convolution 1×1", "30", "5.00", "50", "400", "40", "2.00", "4")
    write(told.results, tmp_path, tmp_path)
    page, text = (tmp_path / name for name in ("report.html", "report.md"))
    for line in ("depthwise", "GB/s", "convolution 1×1"):
        assert line in page.read_text() and line in text.read_text()
    assert derive(told.results.load(tmp_path / "report.json")).layers[0].ms == 5
