"""Six networks of other people's code, fitted to CamVid for minutes, as the ONNX files they write.

Wanted beside torch and torchvision: segmentation-models-pytorch, transformers, ultralytics,
onnxscript.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn
from torchvision.models import segmentation

from runtime import cli
from runtime.errors import HedgeError
from runtime.numbers import Count
from train.datasets import open_index

CLASSES, SIZE, BATCH = 11, (192, 256), 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Scores(nn.Module):
    """A network whose answer is the scores alone, as large as its image."""

    def __init__(self, network: nn.Module, scores: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network, self.scores = network, scores

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) scores of (N, 3, H, W) images."""
        found = self.scores(self.network(images))
        return F.interpolate(found, images.shape[2:], mode="bilinear", align_corners=False)


def torchvisions(make: Callable[..., nn.Module]) -> nn.Module:
    """One of torchvision's, whose scores are the answer's "out"."""
    network = make(weights=None, weights_backbone=None, num_classes=CLASSES)
    return Scores(network, lambda answer: answer["out"])


def unet() -> nn.Module:
    """segmentation_models_pytorch's U-Net."""
    import segmentation_models_pytorch as smp

    return smp.Unet("mobilenet_v2", encoder_weights=None, classes=CLASSES)


def segformer() -> nn.Module:
    """transformers' SegFormer-B0."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES))
    return Scores(network, lambda answer: answer.logits)


def yolo() -> nn.Module:
    """ultralytics' YOLO26n-sem, which as ONNX answers uint8 labels."""
    from ultralytics.nn.tasks import SemanticSegmentationModel

    network = SemanticSegmentationModel("yolo26n-sem.yaml", nc=CLASSES, verbose=False)

    def scores(answer: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        return answer if isinstance(answer, Tensor) else answer[0]  # with one of an auxiliary head

    return Scores(network, scores)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lraspp": lambda: torchvisions(segmentation.lraspp_mobilenet_v3_large),
    "deeplab": lambda: torchvisions(segmentation.deeplabv3_mobilenet_v3_large),
    "unet": unet,
    "segformer": segformer,
    "yolo26n-sem": yolo,
}


def read(camvid: Path) -> tuple[Tensor, Tensor]:
    """(N, 3, H, W) float32 images, normalised, and (N, H, W) int64 labels of the train split."""
    index, images, labels = open_index(camvid, "train"), [], []
    if len(index.classes) != CLASSES:
        raise HedgeError(f"{camvid}: {len(index.classes)} classes; these networks have {CLASSES}")
    height, width = SIZE
    for image, ids in map(index.read, index.items):
        images.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        labels.append(cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std, torch.from_numpy(np.stack(labels)).long()


def fit(network: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> float:
    """Train; the last epoch's mean loss."""
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    network.train()
    for _ in range(epochs):
        losses = []
        for part in torch.randperm(len(images))[: len(images) // BATCH * BATCH].split(BATCH):
            flip = [3] if torch.rand(()) < 0.5 else []
            shown, wanted = images[part].flip(flip), labels[part].flip([d - 1 for d in flip])
            loss = F.cross_entropy(network(shown), wanted, ignore_index=255)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    # So few steps leave the running statistics of a slow momentum far behind.
    update_bn(images.split(BATCH), network)
    return float(np.mean(losses))


def write(name: str, network: nn.Module, out: Path) -> None:
    """The network as ONNX, as its users write it."""
    network.eval()
    image = torch.zeros(1, 3, *SIZE)
    if name == "yolo26n-sem":  # what its exporter sets, of the network as it comes
        network = network.network
        network.model[-1].export, network.model[-1].format = True, "onnx"
    torch.onnx.export(network, (image,), out / f"{name}.onnx", dynamo=True, external_data=False)
    if name == "lraspp":
        axes = {0: "batch", 2: "height", 3: "width"}
        torch.onnx.export(
            network, (image,), out / "lraspp-dynamic.onnx", dynamo=False,
            input_names=["image"], output_names=["scores"],
            dynamic_axes={"image": axes, "scores": axes},
        )  # fmt: skip


@dataclass(frozen=True)
class ForeignNetworks:
    """Fit six networks of other people's code to CamVid, and write the ONNX files they write.

    NAME.onnx is for 192×256 images with ImageNet's mean and deviation, all by the newer exporter of
    PyTorch but lraspp-dynamic, which has dynamic axes and is by the older one. All begin with
    random weights: they need labels that are worth comparing, not good ones.

    Example: python docs/recipes/foreign_networks.py camvid networks 4
    """

    camvid: Annotated[Path, tyro.conf.Positional]
    """CamVid in the folder layout, of eleven classes."""
    out: Annotated[Path, tyro.conf.Positional]
    """Folder for NAME.onnx and classes.json."""
    epochs: Annotated[Count, tyro.conf.Positional] = 12
    """Passes over its images."""


def main(config: ForeignNetworks) -> None:
    """Fit and write all six."""
    images, labels = read(config.camvid)
    config.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(config.camvid / "classes.json", config.out / "classes.json")
    for name, make in NETWORKS.items():
        torch.manual_seed(0)
        network, start = make(), time.monotonic()
        loss = fit(network, images, labels, config.epochs)
        write(name, network, config.out)
        cli.say(f"{name}: loss {loss:.3f} after {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    cli.run(ForeignNetworks, main, "python docs/recipes/foreign_networks.py")
