"""The machine's ceilings, energy counters, and facts of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from math import prod
from pathlib import Path

import numpy as np
import psutil
import pynvml
import pytest

import runtime.machine
from benchmarks.host import ceiling, energy
from benchmarks.host import machine as host
from benchmarks.host.machine import busy_s, free_mb, machine, peak_mb, used_s
from runtime.backends.ov import core


@pytest.mark.parametrize("quantised", [False, True])
def test_the_ceiling_counts_what_its_graph_computes(quantised: bool) -> None:
    graph = ceiling.convolutions(quantised)
    layers = [one for one in graph.get_ops() if one.get_type_name() == "Convolution"]
    counts = [prod(one.get_output_shape(0)) * prod(one.get_input_shape(1)[1:]) for one in layers]
    assert 2 * sum(counts) == ceiling.FLOPS


@pytest.mark.skipif(
    "INT8" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="no INT8"
)
def test_the_ceiling_of_int8_is_computed_in_integers() -> None:
    compiled = core().compile_model(ceiling.convolutions(quantised=True), "CPU")
    found = [one.get_rt_info() for one in compiled.get_runtime_model().get_ops()]
    layers = [one for one in found if one["layerType"].astype(str) == "Convolution"]
    assert len(layers) == ceiling.LAYERS
    assert {one["runtimePrecision"].astype(str) for one in layers} <= {"u8", "i8"}


def test_ceilings_by_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "SECONDS", 0.0)
    found = ceiling.measure(threads=1)
    assert found["fp32"] > 0.1 and found["memory"] > 0.1
    assert found.keys() <= {"fp32", "bf16", "fp16", "int8", "memory"}


def test_memory_is_read_and_written_once() -> None:
    graph = ceiling.activation()
    assert prod(graph.input(0).shape) == prod(graph.output(0).shape) == ceiling.FLOATS


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


def test_a_gpus_counter_is_read_in_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's library is not here; what we make of its answers is."""
    millijoules = iter([5_000, 5_000, 7_500])
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(runtime.machine, "gpus", lambda: ("GPU 0",))
    monkeypatch.setattr(runtime.machine, "gpu_bus", lambda: "0000:3b:00.0")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByPciBusId", lambda bus: bus)
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda handle: next(millijoules)
    )
    monkeypatch.setenv("PATH", "")
    assert energy.joules(lambda: None, "cuda") == 2.5


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
    assert 0 < facts["granted_cores"] <= facts["cores"]
    assert facts["versions"]["numpy"] == np.__version__
    assert free_mb() > 10


def test_files_that_a_container_has_read_take_no_memory_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_CGROUPS", [(tmp_path, *row[1:]) for row in host._CGROUPS])
    (tmp_path / "memory.max").write_text("90000000\n")
    (tmp_path / "memory.current").write_text("88000000\n")
    (tmp_path / "memory.stat").write_text("anon 9000000\nfile 79000000\ninactive_file 70000000\n")
    assert free_mb() == 72
    (tmp_path / "memory.max").write_text("max\n")
    assert free_mb() > 72, "no limit"
    (tmp_path / "memory.limit_in_bytes").write_text("80000000\n")
    (tmp_path / "memory.usage_in_bytes").write_text("79000000\n")
    (tmp_path / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 40000000\n")
    assert free_mb() == 41


def test_what_a_process_takes_of_the_cpu() -> None:
    before, code = busy_s(), "while True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        while used_s(process.pid) < 0.3:
            time.sleep(0.05)
        used, busy = used_s(process.pid), busy_s()
        process.kill()
    assert busy - before > used - 0.1, "the machine was busy for at least as long"
    assert used_s(process.pid) == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_memory_of_a_process() -> None:
    code = "x = bytearray(80_000_000); del x; print('freed', flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdout and process.stdout.readline() == b"freed\n"
        peak, now = peak_mb(process.pid), psutil.Process(process.pid).memory_info().rss / 1e6
        process.communicate(b"\n")
    assert peak is not None and peak > 80 > now
