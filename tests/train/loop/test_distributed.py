"""Several processes train, validate and count together, and have the result of one."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.errors import HedgeError
from train.checkpoint import Checkpoint
from train.loop.distributed import world

ROOT = Path(__file__).parents[3]

# Batch-norm statistics are per process on a CPU: they stand still in training, and where validation
# is shared they differ on purpose.
SHARED = """
import json
import sys
from dataclasses import replace
from pathlib import Path
import torch
from train.balance import _counted, label_counts
from train.config import TrainConfig
from train.datasets import open_index
from train.loop.distributed import world
from train.loop.trainer import Trainer
from train.segmentation import SegmentationTask

class Still(SegmentationTask):
    def start_epoch(self, epoch):
        for module in self.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()

data, out = map(Path, sys.argv[1:])
torch.set_num_threads(1)
config = TrainConfig(data=data, batch=4, workers=0, amp=False, epochs=2, out=out, name="run",
                     backbone="timm/test_resnet")
with world() as place:
    train, val = open_index(data, "train"), open_index(data, "val")
    losses = []
    trainer = Trainer(config, Still(config, train, val, place), place)
    trainer.run(lambda step: losses.append(step.loss), lambda epoch: None)
    config = replace(config, ema=None)
    read = []

    class Noting(SegmentationTask):
        def validate(self, network, epoch, world):
            found = super().validate(network, epoch, world)
            read.append(int(found.confusion.counts.sum()))
            return found

    some = replace(val, items=val.items[:3])
    trainer = Trainer(config, Noting(config, train, some, place), place)
    torch.manual_seed(place.rank)
    if place.rank:  # as statistics of another share of the batches
        for module in trainer.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
    trainer.progress.epoch = config.last_epoch
    found = trainer._validated()
    counts = label_counts(train, place, out / "cache")
    mine = int((_counted(train, place, True).sum(1) > 0).sum())
    means = place.means([torch.tensor(float(place.rank)), torch.tensor(10.0)])
    result = {
        "confusion": found.confusion.counts.tolist(), "read": read, "counts": counts.tolist(),
        "mine": mine, "images": len(train), "means": means, "losses": losses,
    }
    (out / f"{place.rank}.json").write_text(json.dumps(result))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each number of processes writes, under that number."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def results(blocks: Path, folder: Path) -> dict[int, list[dict[str, object]]]:
    """What each process found, by the number of processes."""
    script = folder / "shared.py"
    script.write_text(SHARED)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
              "--rdzv-endpoint", "127.0.0.1:0"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["TMPDIR"] = str(folder)  # torchrun leaves its logs
    one, two = folder / "1", folder / "2"
    one.mkdir()
    two.mkdir()
    with pytest.MonkeyPatch.context() as patch:  # this process is one
        patch.setattr(sys, "argv", [str(script), str(blocks), str(one)])
        runpy.run_path(str(script))
    command = [sys.executable, *launch, str(script), str(blocks), str(two)]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return {
        len(names): [json.loads(path.read_text()) for path in names]
        for names in ([one / "0.json"], [two / "0.json", two / "1.json"])
    }


def test_two_processes_reach_the_loss_of_one(results: dict[int, list[dict]], folder: Path) -> None:
    [one], two = results[1], results[2]
    assert len(one["losses"]) == 4
    np.testing.assert_allclose(two[0]["losses"], one["losses"], rtol=1e-3)
    a, b = (
        Checkpoint.load(folder / str(number) / "run" / "last.pt").weights["classifier.weight"]
        for number in (1, 2)
    )
    torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


def test_two_processes_validate_a_share_each_and_have_the_score_of_one(
    results: dict[int, list[dict]],
) -> None:
    [one], two = results[1], results[2]
    assert two[0]["confusion"] == two[1]["confusion"] == one["confusion"]
    pixels = one["read"][0] // 3
    assert [each["read"] for each in two] == [[2 * pixels], [pixels]]


def test_two_processes_count_each_label_once(results: dict[int, list[dict]]) -> None:
    [one], two = results[1], results[2]
    assert two[0]["counts"] == two[1]["counts"] == one["counts"]
    assert one["mine"] == one["images"] == sum(each["mine"] for each in two)
    assert np.array(one["counts"]).any()


def test_means_are_over_all_processes(results: dict[int, list[dict]]) -> None:
    assert results[1][0]["means"] == [0.0, 10.0]
    assert [each["means"] for each in results[2]] == [[0.5, 10.0]] * 2


def test_a_process_without_a_gpu_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the second of two on a machine with one, which PyTorch calls an invalid ordinal."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(HedgeError, match="process 2 has no GPU: torchrun --nproc-per-node 1 here"):
        world().__enter__()
