"""The steps of a run: when losses are read, what is named, what the device is told."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.errors import GateError, HedgeError
from tests.train.test_loop import Make, assert_same, weights
from train.checkpoint import Checkpoint
from train.config import TrainConfig
from train.datasets import open_index
from train.device import exact_fp32
from train.evaluate import Evaluate
from train.evaluation import scoring
from train.evaluation.run import evaluate_run
from train.evaluation.scoring import _scores
from train.hed.task import EdgeTask
from train.loop.distributed import World
from train.loop.task import Step
from train.loop.trainer import Trainer
from train.segmentation import SegmentationTask

ALONE = World(0, 1, torch.device("cpu"))
FAST = {"variant": "vanilla", "batch": 2}  # four steps an epoch


def task_of(config: TrainConfig) -> SegmentationTask:
    assert config.data is not None
    return SegmentationTask(
        config, open_index(config.data, "train"), open_index(config.data, "val"), ALONE
    )


def run(
    config: TrainConfig, read_every: int, task: SegmentationTask | None = None
) -> tuple[list[Step], Callable[[], None]]:
    """The steps that are told, and what runs the training."""
    trainer = Trainer(config, task or task_of(config), ALONE)
    trainer.read_every, steps = read_every, list[Step]()
    return steps, lambda: trainer.run(steps.append, lambda epoch: None)


def test_losses_read_together_are_those_read_one_by_one(tiny_config: Make, tmp_path: Path) -> None:
    """Three at once, of four: the last of an epoch is alone."""
    told = {}
    for every in (1, 3):
        config = tiny_config(tmp_path / str(every), epochs=1, **FAST)
        steps, train = run(config, every)
        train()
        told[config.out] = [(step.epoch, step.step, step.steps, step.loss) for step in steps]
    one, three = told.values()
    assert one == three and [row[:3] for row in one] == [(1, step, 4) for step in range(1, 5)]
    a, b = (weights(out / "tiny" / "last.pt") for out in told)
    assert_same(a, b)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU on this machine")
def test_gpu_steps_do_not_wait_for_the_gpu(tiny_config: Make, tmp_path: Path) -> None:
    """Between two reads of the losses; the first step may set things up."""
    config = tiny_config(tmp_path, ema=0.9, **FAST)
    world = World(0, 1, torch.device("cuda", 0))
    assert config.data is not None
    index = open_index(config.data, "train")
    trainer = Trainer(config, SegmentationTask(config, index, index, world), world)
    batches = list(trainer.task.loader(trainer.sampler))
    trainer._train_step(trainer.network, batches[0])
    if trainer.task.half is torch.float16:
        pytest.skip("the scaler of FP16 asks the GPU in each step whether a gradient overflowed")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[1:]:
            trainer._train_step(trainer.network, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Spoiled(SegmentationTask):
    """Its loss is no number in the sixth step."""

    steps = 0

    def losses(self, outputs: object, *targets: torch.Tensor) -> dict[str, torch.Tensor]:
        self.steps += 1
        parts = super().losses(outputs, *targets)  # type: ignore[arg-type]
        return {n: part * (torch.nan if self.steps == 6 else 1) for n, part in parts.items()}


def test_the_step_without_a_loss_is_named_and_never_saved(
    tiny_config: Make, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path, **FAST)
    of = task_of(config)
    steps, train = run(config, 3, Spoiled(config, of.train, of.val, ALONE))
    with pytest.raises(GateError, match=r"loss is nan at step 2 of epoch 2; .*last\.pt holds"):
        train()
    assert [(step.epoch, step.step) for step in steps][3:] == [(1, 4), (2, 1)]
    saved = Checkpoint.load(config.run / "last.pt")
    assert saved.epoch == 1 and all(t.isfinite().all() for t in saved.weights.values())


class Exploding(SegmentationTask):
    """Its weights are no numbers after the last step of an epoch, whose own loss is one."""

    spoiled = 0

    def prepare(self, batch: Sequence[torch.Tensor], step: int) -> Sequence[torch.Tensor]:
        if step == self.spoiled:
            torch.nn.init.constant_(self.network.classifier.bias, torch.inf)
        return super().prepare(batch, step)

    def losses(self, outputs: object, *targets: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = super().losses(outputs, *targets)  # type: ignore[arg-type]
        return {name: part.nan_to_num(0) for name, part in parts.items()}


@pytest.mark.parametrize(("spoiled", "kept"), [(3, False), (7, True)])
def test_weights_that_are_no_numbers_are_never_saved(
    spoiled: int, kept: bool, tiny_config: Make, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path, **FAST)
    of = task_of(config)
    task = Exploding(config, of.train, of.val, ALONE)
    task.spoiled = spoiled
    _, train = run(config, 1, task)
    with pytest.raises(GateError, match=f"not finite after {spoiled + 1} steps; ") as caught:
        train()
    last = config.run / "last.pt"
    assert last.exists() == ("last.pt holds" in str(caught.value)) == kept
    if kept:
        assert Checkpoint.load(last).epoch == 1


def test_a_signal_between_two_reads_ends_the_run_at_once(tiny_config: Make, tmp_path: Path) -> None:
    class Interrupted(SegmentationTask):
        def start_epoch(self, epoch: int) -> None:
            super().start_epoch(epoch)
            os.kill(os.getpid(), signal.SIGINT)

    config = tiny_config(tmp_path, **FAST)
    of = task_of(config)
    steps, train = run(config, 4, Interrupted(config, of.train, of.val, ALONE))
    with pytest.raises(KeyboardInterrupt):
        train()
    assert len(steps) == 1 and Checkpoint.load(config.run / "last.pt").step == 1


def test_workers_stay_from_epoch_to_epoch(tiny_config: Make, tmp_path: Path) -> None:
    task = task_of(tiny_config(tmp_path, workers=1, **FAST))
    trainer = Trainer(task.config, task, ALONE)
    loader = task.loader(trainer.sampler)
    seen = []
    for trainer.sampler.epoch in range(2):
        seen.append([batch.image for batch in loader])  # type: ignore[union-attr]
        processes = loader._iterator._workers  # type: ignore[union-attr]
        seen[-1].append(processes[0].pid)
    (*first, a), (*second, b) = seen
    assert a == b
    for epoch, batches in enumerate((first, second)):
        trainer.sampler.epoch = epoch
        alone = task_of(replace(task.config, workers=0)).loader(trainer.sampler)
        assert all(torch.equal(x, y.image) for x, y in zip(batches, alone, strict=True))


def test_a_run_without_a_scalers_state_goes_on_in_fp16(tiny_config: Make, tmp_path: Path) -> None:
    """As a run in bf16 does on a GPU without it; and a run in FP16 has its scale back."""
    config = tiny_config(tmp_path, **FAST)
    last, task = config.run / "last.pt", task_of(config)
    Trainer(config, task, ALONE)._save(0.5)
    task.half = torch.float16
    trainer = Trainer(config, task, ALONE)
    trainer.restore(last)
    assert trainer.scaler.is_enabled() and trainer.scaler.get_scale() == 65536
    trainer.scaler.load_state_dict({**trainer.scaler.state_dict(), "scale": 1024.0})
    trainer._save(0.5)
    again = Trainer(config, task, ALONE)
    again.restore(last)
    assert again.scaler.get_scale() == 1024


def test_the_gpu_computes_fp32_in_full_and_looks_for_kernels_where_sizes_stay(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flags() -> tuple[bool, str]:
        return torch.backends.cudnn.benchmark, torch.backends.cudnn.conv.fp32_precision

    assert SegmentationTask.fixed_size and not EdgeTask.fixed_size
    before, seen = flags(), []
    config = tiny_config(tmp_path, variant="vanilla", epochs=1)
    Trainer(config, task_of(config), ALONE).run(lambda step: seen.append(flags()), lambda _: None)
    assert set(seen) == {(True, "ieee")} and flags() == before == (False, "tf32")
    with exact_fp32():
        assert flags() == (False, "ieee")

    def noted(*given: Any) -> Any:
        seen.append(flags())
        return _scores(*given)

    seen.clear()
    monkeypatch.setattr(scoring, "_scores", noted)
    evaluate_run(Evaluate(config.run))
    assert set(seen) == {(False, "ieee")} and flags() == before


def test_a_backbone_that_cannot_take_the_validation_size_is_told_before_training(
    tiny_config: Make, tmp_path: Path
) -> None:
    asked = {"backbone": "timm/dla46_c", "crop": (64, 96)}
    with pytest.raises(HedgeError, match=r"timm/dla46_c takes no images of 65×97 \("):
        task_of(tiny_config(tmp_path, size=(65, 97), **asked))
    task = task_of(tiny_config(tmp_path, size=(96, 64), **asked))
    assert task.network.backbone.training


def test_a_step_of_one_value_a_channel_is_told_before_training(
    tiny_config: Make, tmp_path: Path
) -> None:
    with pytest.raises(HedgeError, match=r"--batch 1, --crop 32 32: one value .* at 1/32"):
        task_of(tiny_config(tmp_path, batch=1, crop=(32, 32)))
    task_of(tiny_config(tmp_path, batch=1, crop=(32, 33)))


def test_the_rate_that_is_told_is_that_of_the_new_layers(tiny_config: Make, tmp_path: Path) -> None:
    """Those on the trunk's stages come before the backbone, the others behind it."""
    path = tmp_path / "start.pt"
    config = tiny_config(tmp_path, variant="dlse_hed", backbone_lr=0.3)
    torch.save(task_of(config).network.state_dict(), path)
    config = replace(config, start=path)
    trainer = Trainer(config, task_of(config), ALONE)
    rates = trainer.schedule.get_last_lr()
    assert trainer.rate == max(rates) == pytest.approx(min(rates) / 0.3)


def test_a_killed_process_that_loads_images_is_told(tiny_config: Make, tmp_path: Path) -> None:
    """As the system does it where memory is full."""

    def kill(_: Step) -> None:
        multiprocessing.active_children()[0].kill()

    config = tiny_config(tmp_path, workers=1, epochs=50, **FAST)
    with pytest.raises(HedgeError, match=r"DataLoader worker .*--workers 0"):
        Trainer(config, task_of(config), ALONE).run(kill, lambda _: None)
