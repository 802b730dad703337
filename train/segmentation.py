"""The task of ``python -m train``: DeepLab on labelled images, scored by mIoU."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from runtime.errors import HedgeError
from runtime.interrupt import ENDING
from train.augment import BatchSampler, Loaded, TrainingSet, collate, training_transform
from train.balance import class_weights, label_counts, repeat_factors
from train.checkpoint import Checkpoint, find_checkpoint, last_good, start_from
from train.config import TrainConfig
from train.datasets.index import Index
from train.device import half_precision
from train.evaluation.run import worst_and_median
from train.evaluation.scoring import evaluate, load_model
from train.loop.distributed import World
from train.loop.settings import to_builtins
from train.loop.task import State, Task, Validation, require_same_settings
from train.losses import edge_loss, jaccard_loss, segmentation_loss, teacher_loss
from train.models import DeepLab
from train.models.deeplab import AUXILIARY, Segmentation
from train.models.hed import load_hed_weights
from train.models.spec import describe_keys
from train.record import pictures

LONGEST_SIDE = 1024
COUNTS = ".label_counts"  # in the folder of the runs


class SegmentationTask(Task):
    """DeepLab of ``config`` on ``world``'s device, trained on one index and validated on another.

    quiet: no bar while the training labels are counted. HedgeError if weights do not fit.
    """

    fixed_size = True

    def __init__(
        self, config: TrainConfig, train: Index, val: Index, world: World, quiet: bool = True
    ) -> None:
        self.config, self.train, self.val, self.device = config, train, val, world.device
        self.samples = len(train.items)
        self.patience = config.patience
        self.size = config.size or default_size(train)
        self.crop = config.crop or self.size
        self.half = half_precision(self.device) if config.amp else None
        self.network: DeepLab = _network(config, len(train.classes))
        self.network.to(self.device).to(memory_format=torch.channels_last)
        for size in (self.size, self.crop):  # else told at the first validation
            self.network.require(size)
        stride = self.network.config.output_stride
        cells = math.prod(math.ceil(side / stride) for side in self.crop)
        if cells * config.batch <= world.size:  # else told by PyTorch, as a fault
            raise HedgeError(
                f"--batch {config.batch}, --crop {self.crop[0]} {self.crop[1]}: one value a "
                f"process at 1/{stride}, which batch-norm cannot learn from; give a larger batch "
                "or crop"
            )
        self.teacher: DeepLab | None = None
        if config.teacher:
            self.teacher = _teacher(config.teacher, train.classes.names).to(self.device)
        self.class_weights: torch.Tensor | None = None
        if config.class_balance or config.oversample or train.weights is not None:
            counts = label_counts(train, world, config.out / COUNTS, quiet)
            if config.class_balance:
                self.class_weights = class_weights(counts, config.class_balance).to(self.device)
            self.repeats = repeat_factors(counts, config.oversample, train.weights)

    @property
    def _frozen_hed(self) -> nn.Module | None:
        """The edge network, where it came with weights and is not trained."""
        return self.network.hed if self.config.edge_weights else None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Backbone and new layers with their rates; norms and biases without weight decay."""
        config = self.config
        pretrained = config.weights or config.start
        backbone_lr = config.lr * (config.backbone_lr if pretrained else 1.0)
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            if not parameter.requires_grad:
                continue
            lr = backbone_lr if name.startswith("backbone.") else config.lr
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
        return [{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()]

    def loader(self, sampler: BatchSampler) -> DataLoader[Loaded]:
        """Batches of ``Sample``, augmented in ``config.workers`` processes."""
        return DataLoader(
            self._samples,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=self.config.workers,
            worker_init_fn=_leave_signals_to_the_parent,
            persistent_workers=self.config.workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    @property
    def _samples(self) -> TrainingSet:
        transform = training_transform(self.size, self.crop, self.config.scale)
        return TrainingSet(self.train, transform)

    def example(self, sampler: BatchSampler) -> np.ndarray:
        """(H, W, 3) uint8 BGR: crops of the sampler's next batch, with their labels."""
        samples = [self._samples.sample(key) for key in next(iter(sampler))]
        return pictures.of_batch(samples, self.train.classes)

    def start_epoch(self, epoch: int) -> None:
        """Training mode, except for frozen batch-norm statistics and a frozen edge network."""
        super().start_epoch(epoch)
        if epoch < self.config.freeze_bn:
            for module in self.network.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        if self._frozen_hed is not None:
            self._frozen_hed.eval()

    def prepare(self, batch: Sequence[torch.Tensor], step: int) -> Sequence[torch.Tensor]:
        """Keep every loss_stride-th row and column of the labels, the first by the step's turn."""
        image, *labels = batch
        stride = self.config.loss_stride
        rows, columns = slice(step % stride, None, stride), step // stride % stride
        return [image, *(label[:, rows, columns::stride] for label in labels)]

    def forward(
        self, network: nn.Module, image: torch.Tensor, *targets: torch.Tensor
    ) -> tuple[Segmentation, torch.Tensor | None]:
        """The network's answer and its teacher's scores, at the size of the targets, which may be
        thinned."""
        size = (targets[0].shape[-2], targets[0].shape[-1])
        with torch.no_grad():
            taught = self.teacher(image, size).logits if self.teacher is not None else None
        return network(image, size), taught

    def losses(
        self, outputs: tuple[Segmentation, torch.Tensor | None], *targets: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The parts of the loss with their weights; outputs: of ``forward``; targets: labels,
        edges."""
        config, (target, edges), (answer, taught) = self.config, targets, outputs
        cross_entropy = partial(
            segmentation_loss,
            target=target,
            hardest=config.ohem,
            smoothing=config.label_smoothing,
            weights=self.class_weights,
        )
        parts = {"cross-entropy": cross_entropy(answer.logits)}
        if answer.auxiliary is not None:
            parts["auxiliary"] = config.aux_weight * cross_entropy(answer.auxiliary)
        if config.jaccard:
            parts["jaccard"] = config.jaccard * jaccard_loss(answer.logits, target)
        if taught is not None:
            parts["teacher"] = config.teacher_weight * teacher_loss(answer.logits, taught)
        if answer.edges is not None and self._frozen_hed is None:
            parts["edges"] = config.edge_loss * edge_loss(answer.edges, edges)
        return parts

    def validate(self, network: nn.Module, epoch: int, world: World) -> Validation | None:
        """Score on the validation split, every ``validate_every`` epochs and after the last."""
        if epoch % self.config.validate_every and epoch != self.config.last_epoch:
            return None
        deployed = cast(DeepLab, network.eval())
        share = replace(self.val, items=tuple(world.share(self.val.items)))
        found = evaluate(deployed, share, self.size, boundaries=False)
        losses = [image.loss for image in found.by_image if not math.isnan(image.loss)]
        images = np.zeros(len(self.val))
        images[world.share(range(len(self.val)))] = [image.miou for image in found.by_image]
        return Validation(found.confusion, np.array([sum(losses), len(losses)]), images)

    def looked_at(self, network: nn.Module, miou: np.ndarray) -> np.ndarray:
        """The worst and the median images of the validation split, a row each."""
        return worst_and_median(cast(DeepLab, network), self.val, self.size, miou)

    def save(self, state: State, improved: bool) -> None:
        """best.pt: the weights that validated best; last.pt: also all that it takes to resume.

        An auxiliary head is part of the latter alone.
        """
        checkpoint = Checkpoint(
            config=self.config,
            model=self.network.config,
            classes=self.train.classes,
            size=self.size,
            weights={n: t for n, t in state.weights.items() if not n.startswith(AUXILIARY)},
            epoch=state.epoch,
            step=state.step,
            miou=state.miou,
            training=state.training,
            license=self.config.license,
        )
        if improved:
            replace(checkpoint, training={}).save(self.config.run / "best.pt")
        checkpoint.save(self.config.run / "last.pt")

    def load(self, path: Path) -> State:
        """The state in last.pt, or in previous.pt if that is damaged."""
        saved = last_good(path, Checkpoint.load)
        own, then = self.network.config, saved.model
        free = ("hed", "backbone", "decoder")  # defaults of these change
        now = replace(self.config, size=self.size, **{name: getattr(own, name) for name in free})
        before = to_builtins(replace(saved.config, size=saved.size))
        before |= {name: getattr(then, name) for name in free}
        require_same_settings(path, now, before)
        if saved.classes != self.train.classes:
            raise HedgeError(f"{path}: cannot resume with other classes; drop --resume")
        if not saved.training:
            raise HedgeError(f"{path}: holds no training state; resume from last.pt")
        trained = saved.training["model"]  # the average's head was not kept: it is never asked
        head = {name: trained[name] for name in trained if name.startswith(AUXILIARY)}
        weights = saved.weights | head
        return State(saved.epoch, saved.step, saved.miou, weights, saved.training)


def _network(config: TrainConfig, classes: int) -> DeepLab:
    """A network of ``config`` with the weights it starts from."""
    torch.manual_seed(config.seed)
    new = config.resumed is None  # what is resumed brings its weights
    weights = config.weights if new else None
    network = DeepLab(config.model(classes), weights, auxiliary=config.aux_weight > 0)
    if config.start and new:
        start_from(network, find_checkpoint(config.start))
    if config.edge_weights:  # last: the run that is started from may have an edge network too
        if network.hed is None:
            raise HedgeError(
                f"--edge-weights {config.edge_weights}: this model has no edge network to "
                "fill; add --variant dlse_hed --hed lite (or fpn, vgg16), or drop the weights"
            )
        if new:
            load_hed_weights(network.hed, config.edge_weights)
        network.hed.requires_grad_(False)
    return network


def _teacher(run: Path, classes: Sequence[str]) -> DeepLab:
    """The frozen network of a run, its scores in the order of ``classes``; HedgeError unless it
    knows these and no others."""
    checkpoint = Checkpoint.load(find_checkpoint(run))
    given = checkpoint.classes.names
    missing = [name for name in classes if name not in given]
    extra = [name for name in given if name not in classes]
    if missing or extra:
        raise HedgeError(
            f"--teacher {run}: its classes are not those of the data: "
            f"{describe_keys(missing, extra, [])}"
        )
    network = load_model(checkpoint).requires_grad_(False)
    order = [given.index(name) for name in classes]
    for parameter in network.classifier.parameters():
        parameter.data = parameter.data[order]
    return network


def default_size(index: Index) -> tuple[int, int]:
    """The first image's (H, W), scaled down to at most 1024 on the longer side."""
    height, width = index.read(index.items[0])[0].shape[:2]
    shrink = min(1.0, LONGEST_SIDE / max(height, width))
    return round(height * shrink), round(width * shrink)


def _leave_signals_to_the_parent(worker: int) -> None:
    """A terminal's Ctrl-C reaches the whole group; workers must live until the step is saved."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
