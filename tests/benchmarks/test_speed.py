"""The table of speeds: real exports of an untrained model, PyTorch and every engine in turn."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.speed import Speed, main
from benchmarks.studies.interleaved import interleaved
from benchmarks.studies.untrained import YARDSTICK, Case, random_checkpoint, torch_engines
from runtime.backends.ort import OrtEngine
from runtime.backends.registry import BACKENDS, installed_backends, load_engine
from runtime.errors import HedgeError
from train.evaluate import load_model

ENGINES = [name for name in installed_backends() if BACKENDS[name].device == "cpu"]
CASE = Case("mobilenet_v2", "dlse_hed", (64, 96))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speed]:
    """The smallest run there is; its bundles are made once for all tests here."""
    out, threads = tmp_path_factory.mktemp("speed"), torch.get_num_threads()
    yield Speed(("mobilenet_v2:64x96",), ("fp32", "fp16"), slow=True, rounds=2, threads=1, out=out)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def report(config: Speed) -> dict[str, Any]:
    """What a whole run writes."""
    main(config)
    return json.loads((config.out / "report.json").read_bytes())


def test_every_engine_and_precision_is_timed(report: dict[str, Any]) -> None:
    rows = {row["engine"]: row for row in report["rows"]}
    expected = {f"{engine} {precision}" for engine in ENGINES for precision in ("fp32", "fp16")}
    assert rows.keys() - {"pytorch bf16 channels_last"} == {YARDSTICK, "pytorch fp32", *expected}
    for row in rows.values():
        assert row["model"] == "mobilenet_v2-dlse_hed-64x96"
        assert 0 < row["p50"] <= row["p95"]
        assert row["fps"] == pytest.approx(1e3 / row["p50"])
        assert row["speedup"] == pytest.approx(rows[YARDSTICK]["p50"] / row["p50"])
    assert rows[YARDSTICK]["speedup"] == 1
    assert (report["rounds"], report["threads"], report["weights"]) == (2, 1, "random")
    assert report["machine"]["versions"]["torch"] == torch.__version__


def test_costs_are_shares_of_the_frame(report: dict[str, Any]) -> None:
    parts = {"SE": "dlse", "HED": "dlse_hed", "our code": "dlse_hed"}
    assert [(cost["part"], cost["model"], cost["engine"]) for cost in report["costs"]] == [
        (part, f"mobilenet_v2-{variant}-64x96", f"{engine} fp16")
        for engine in ENGINES
        for part, variant in parts.items()
    ]
    for cost in report["costs"]:
        assert cost["with_ms"] > 0 and cost["without_ms"] > 0
        assert cost["share"] == pytest.approx(1 - cost["without_ms"] / cost["with_ms"])
        assert cost["low"] <= cost["share"] <= cost["high"] < 1


def test_the_markdown_holds_every_row(report: dict[str, Any], config: Speed) -> None:
    lines = (config.out / "report.md").read_text().splitlines()
    assert len([line for line in lines if "| mobilenet_v2" in line]) == len(
        report["rows"] + report["costs"]
    )
    assert "random weights" in lines[-1]


def test_bundles_are_exported_once(report: dict[str, Any], config: Speed) -> None:
    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in config.out.rglob("model.onnx")}

    before = written()
    main(replace(config, slow=False))
    assert written() == before
    rows = json.loads((config.out / "report.json").read_bytes())["rows"]
    assert "onnxruntime fp16" not in {row["engine"] for row in rows}


def test_pytorch_answers_alike_in_all_its_ways(report: dict[str, Any], config: Speed) -> None:
    model = load_model(random_checkpoint(CASE, config.out))
    frame = np.random.default_rng(0).integers(256, size=(1, *CASE.size, 3), dtype=np.uint8)
    with torch.inference_mode():
        assert model(torch.rand(1, 3, *CASE.size)).logits.isfinite().all()
    for engine in torch_engines(CASE, config.out).values():
        assert not engine.infer(frame).any(), "the model calls everything its first class"


def test_pytorch_computes_in_the_layout_that_is_named(config: Speed) -> None:
    frame = np.random.default_rng(0).integers(256, size=(1, *CASE.size, 3), dtype=np.uint8)
    layouts = {}
    for name, engine in torch_engines(CASE, config.out).items():
        network = engine._graph.network  # type: ignore[attr-defined]
        seen: list[torch.Tensor] = []
        network.aspp.register_forward_hook(lambda _, __, answer, seen=seen: seen.append(answer))
        engine.infer(frame)
        planes = seen[0].is_contiguous()
        layouts[name] = ("planes" if planes else "channels_last", str(seen[0].dtype))
    bf16 = layouts.pop("pytorch bf16 channels_last", ("channels_last", "torch.bfloat16"))
    assert bf16 == ("channels_last", "torch.bfloat16")
    assert layouts == {
        YARDSTICK: ("channels_last", "torch.float32"),
        "pytorch fp32": ("planes", "torch.float32"),
    }


class Disturbed(OrtEngine):
    """Fast on its second call in a row; the first suffers from the engine before."""

    last: Disturbed | None = None

    def infer(self, batch: np.ndarray) -> np.ndarray:
        if Disturbed.last is not self:
            time.sleep(0.05)
        Disturbed.last = self
        return super().infer(batch)


def test_engines_that_take_turns_are_timed_undisturbed(shared_bundle: Path) -> None:
    engines = {name: load_engine(shared_bundle, "onnxruntime", threads=1) for name in "ab"}
    for engine in engines.values():
        engine.__class__ = Disturbed
    times = interleaved(engines, [np.zeros((48, 64, 3), np.uint8)], range(5))
    for latency in times.values():
        assert len(latency.samples) == 5
        assert 0 < median(latency.samples) < 50


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("resnet50:512x1024", Case("resnet50", "dlse_hed", (512, 1024))),
        ("resnet18:vanilla:64x96", Case("resnet18", "vanilla", (64, 96))),
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
