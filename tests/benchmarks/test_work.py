"""Multiply-adds of a graph, the machine's ceilings, energy counters, and facts of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.host import ceiling, energy
from benchmarks.host.machine import busy_s, free_mb, machine, resident_mb, used_s
from benchmarks.run.multiply_adds import multiply_adds
from export.deploy import DeployGraph
from export.to_onnx import to_onnx
from train.checkpoint import Checkpoint
from train.evaluate import load_model


def _graph(
    path: Path, nodes: list[onnx.NodeProto], shape: tuple[int, ...], **weights: tuple
) -> Path:
    graph = helper.make_graph(
        nodes, "work",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(s, np.float32), n) for n, s in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


@pytest.mark.parametrize(
    ("node", "shape", "weights", "count"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4), (2, 8, 5, 7), (4, 8, 3, 3),
         2 * 4 * 5 * 7 * 8 * 9),
        (helper.make_node("Conv", ["x", "w"], ["y"], group=8), (1, 8, 5, 7), (8, 1, 3, 3),
         8 * 3 * 5 * 9),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]), (1, 8, 5, 7),
         (8, 4, 2, 2), 8 * 5 * 7 * 4 * 4),
        (helper.make_node("Gemm", ["x", "w"], ["y"]), (3, 5), (5, 7), 3 * 5 * 7),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), (2, 3, 5), (5, 7), 2 * 3 * 5 * 7),
    ],
)  # fmt: skip
def test_multiply_adds(
    node: onnx.NodeProto, shape: tuple[int, ...], weights: tuple[int, ...], count: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    assert multiply_adds(_graph(tmp_path / "g.onnx", [node], shape, w=weights)) == count


def test_an_unknown_shape_is_no_count(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    assert multiply_adds(_graph(tmp_path / "g.onnx", [node], (0, 5), w=(5, 7))) is None


def test_a_whole_network_counts_as_in_pytorch(trained_run: Path, tmp_path: Path) -> None:
    model = load_model(Checkpoint.load(trained_run / "best.pt"))
    to_onnx(DeployGraph(model, (64, 96), (64, 96)), 1, tmp_path / "g.onnx")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, 64, 96))
    assert multiply_adds(tmp_path / "g.onnx") == counter.get_total_flops() // 2


@pytest.mark.parametrize("quantised", [False, True])
def test_the_ceiling_counts_what_its_graph_computes(quantised: bool, tmp_path: Path) -> None:
    graph = ceiling.convolutions(quantised)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, tmp_path / "g.onnx")
    assert 2 * (multiply_adds(tmp_path / "g.onnx") or 0) == ceiling.FLOPS


def test_ceilings_by_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "SECONDS", 0.0)
    found = ceiling.measure(threads=1)
    assert found["fp32"] > 0.1
    assert found.keys() <= {"fp32", "bf16", "fp16", "int8"}


def test_rapl_adds_packages_and_survives_a_full_turn(tmp_path: Path) -> None:
    for name, value in (("intel-rapl:0", 900), ("intel-rapl:1", 100), ("intel-rapl:0:0", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(str(value))
        (tmp_path / name / "max_energy_range_uj").write_text("1000")
    read = energy._rapl(tmp_path)
    assert read is not None
    before = read()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("50")  # 150 later, over its limit
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("120")
    assert (read() - before) * 1e6 == pytest.approx(170)


def test_without_counters_there_is_no_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    done: list[int] = []
    assert energy.joules(lambda: done.append(1), "cpu") is None
    assert not done, "nothing is run where nothing can be told"


def test_tegrastats_is_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orin = "RAM 3/7GB CPU [1%@729] VDD_IN 4567mW/4400mW VDD_CPU_GPU_CV 900mW/890mW"
    nano = "RAM 3/7GB POM_5V_GPU 0/0 POM_5V_IN 2345/2300 POM_5V_CPU 1/1"
    assert energy.tegra_watts(f"{orin}\n{nano}\n") == [4.567, 2.345]
    assert energy.tegra_watts("RAM 3/7GB") == []
    script = tmp_path / "tegrastats"
    script.write_text(f"#!/bin/sh\nwhile :; do echo '{orin}'; sleep 0.02; done\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = energy.joules(lambda: time.sleep(0.3), "cuda")
    assert found is not None and 0.3 * 4.567 <= found < 5 * 4.567


def test_facts_of_the_machine() -> None:
    facts = machine()
    assert facts["cores"] >= 1 and facts["versions"]["numpy"] == np.__version__
    assert free_mb() > 10


@pytest.mark.skipif(busy_s() is None, reason="the system does not tell")
def test_what_a_process_takes_of_the_cpu() -> None:
    before, code = busy_s(), "while True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        while used_s(process.pid) < 0.3:
            time.sleep(0.05)
        used, busy = used_s(process.pid), busy_s()
        process.kill()
    assert before is not None and busy is not None
    assert busy - before > used - 0.1, "the machine was busy for at least as long"
    assert used_s(process.pid) == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_memory_of_a_process() -> None:
    code = "x = bytearray(80_000_000); del x; print('freed', flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdout and process.stdout.readline() == b"freed\n"
        peak, now = resident_mb(process.pid, peak=True), resident_mb(process.pid)
        process.communicate(b"\n")
    assert peak is not None and now is not None and peak > 80 > now
