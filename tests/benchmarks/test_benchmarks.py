"""The comparison of engines: every bundle in every engine, ratios against the first row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.__main__ import Benchmark, main
from runtime.engine import installed_backends
from runtime.errors import HedgeError


def test_report(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    measured = {"miou_by_backend": {"onnxruntime": 0.5}, "images": 7, "data": "blocks"}
    small = make_bundle(tmp_path / "small", measured=measured)
    large = make_bundle(tmp_path / "large", size=(480, 640))
    main(Benchmark((small, large), rounds=9, out=tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    rows = report["measurements"]
    assert len(rows) == 2 * len(installed_backends())
    assert rows[0]["ratio"] == 1
    for row in rows:
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
        assert row["fps"] == pytest.approx(1e3 / row["p50"])
    by_size = {(row["backend"], row["input"]): row["p50"] for row in rows}
    for backend in installed_backends():  # 400 times the pixels
        assert by_size[backend, "1×480×640"] > by_size[backend, "1×24×32"]
    accuracy = {(r["backend"], r["input"]): (r["miou"], r["miou_on"]) for r in rows}
    assert accuracy["onnxruntime", "1×24×32"] == (0.5, "7 frames of blocks")
    assert accuracy["openvino", "1×480×640"] == (None, "")
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert len([line for line in markdown.splitlines() if line.startswith("| ")]) == 1 + len(rows)


def test_nothing_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HedgeError, match="python -m export"):
        main(Benchmark())
