"""Settings of an edge network's training: the command line and the saved config.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from runtime.errors import HedgeError
from runtime.numbers import Count, Positive, Weight
from train.config import HedName
from train.loop.settings import RunConfig

LR: dict[HedName, float] = {"lite": 2e-3, "fpn": 8e-3, "vgg16": 1e-4}  # VGG has no batch-norm


@dataclass(frozen=True, kw_only=True)
class HedConfig(RunConfig):
    """Train an edge network on BSDS500; writes runs/NAME/{config.json,metrics.jsonl,edges.pt}.

    Example: python -m train.hed --data data/bsds500

    Then: python -m train.hed.evaluate runs/hed-fpn --data data/bsds500
    """

    data: Path
    """BSDS500's data folder: images/train/*.jpg and groundTruth/train/*.mat."""
    net: HedName = "fpn"
    """lite: 0.19 M parameters, trains on a CPU; fpn: the same under a feature pyramid, which learns
    more of the same images; vgg16: the paper's network, 14.7 M, needs a GPU and --start."""
    start: str | None = None
    """Edge weights to start from: the published key names, or a run of train.hed. vgg16
    also takes "imagenet" (torchvision downloads it) or a file of torchvision's vgg16."""
    teacher: Path | None = None
    """A better network, whose soft edges on the training images are learned beside people's: edge
    weights (published key names, or a run of train.hed), whose maps are drawn once and kept in
    --out, or a folder with a gray PNG for each image, of any detector."""
    teacher_weight: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """Share of the teacher in what is learned; it is alone where people leave a pixel open."""
    agreement: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
    """Share of the annotators that makes a pixel an edge; pixels that fewer marked are ignored."""
    crop: Annotated[int, msgspec.Meta(ge=64, le=16_384)] = 256
    """Side of the square training crops in pixels; each step removes 0 to 31 rows and columns."""
    scale: tuple[Positive, Positive] = (0.7, 1.5)
    """Range of the random scaling; crops are also flipped, and turned by multiples of 22.5°."""
    epochs: Count = 150
    lr: Positive | None = None
    """Peak learning rate (AdamW, poly decay with power 0.9). Default: 2e-3 for lite, 8e-3
    for fpn, 1e-4 for vgg16."""
    weight_decay: Weight = 1e-3
    """AdamW's weight decay."""
    ema: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale[0] > self.scale[1]:
            raise HedgeError(f"--scale is a range, smaller number first, not {self.scale}")

    @property
    def rate(self) -> float:
        """The peak learning rate."""
        return self.lr if self.lr is not None else LR[self.net]

    @property
    def default_name(self) -> str:
        """hed-NET."""
        return f"hed-{self.net}"
