"""What a training of an edge network is made of: the command line and the saved config.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from runtime.errors import HedgeError
from train.config import HedName

LR: dict[HedName, float] = {"lite": 2e-3, "vgg16": 1e-4}  # without batch-norm, VGG bears less


@dataclass(frozen=True)
class HedConfig:
    """Train an edge network on BSDS500; writes runs/NAME/{config.json,metrics.jsonl,edges.pt}.

    Example: python -m train.hed --data data/bsds500 --net lite

    Then: python -m train.hed.evaluate runs/hed-lite --data data/bsds500
    """

    data: Path
    """BSDS500's data folder: images/train/*.jpg and groundTruth/train/*.mat."""
    net: HedName = "lite"
    """lite: 0.19 M parameters, trains on a CPU; vgg16: the paper's network, 14.7 M, wants a GPU
    and --start."""
    start: str | None = None
    """Edge weights to start from: the published key names, or an edges.pt of ours. vgg16 also
    starts from "imagenet" (torchvision downloads it), or a file of torchvision's vgg16."""
    agreement: float = 0.3
    """A pixel is an edge where at least this share of the people drew one; where fewer did, it
    counts neither way."""
    crop: int = 256
    """Side of the square training crops, in pixels; each step trims up to 31 off."""
    scale: tuple[float, float] = (0.7, 1.5)
    """Range of the random scaling; crops are also flipped, and turned by multiples of 22.5°."""
    epochs: int = 150
    """Passes over the training split."""
    batch: int = 8
    """Images a step."""
    lr: float | None = None
    """Peak learning rate (AdamW, poly decay with power 0.9). Default: 2e-3 for lite, 1e-4 for
    vgg16."""
    weight_decay: float = 1e-3
    """AdamW's."""
    ema: float | None = 0.99
    """Keep an exponential moving average of the weights with this decay."""
    seed: int = 0
    """Decides initial weights, order and augmentation."""
    amp: bool = True
    """bf16, where the device computes in it."""
    name: str | None = None
    """Name of the run. Default: hed-NET."""
    out: Path = Path("runs")
    """Folder of the runs."""
    resume: bool = False
    """Continue runs/NAME/last.pt after the last epoch it finished."""
    force: bool = False
    """Start over, replacing an existing run of this name."""
    until: Annotated[int | None, tyro.conf.arg(name="stop-after")] = None
    """Stop after this epoch, to be resumed later; the schedule stays that of --epochs."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "rate"):
            if getattr(self, name) <= 0:
                option = name.replace("rate", "lr")
                raise HedgeError(f"--{option} must be positive, not {getattr(self, name)}")
        if self.crop < 64:
            raise HedgeError(f"--crop must be at least 64 pixels, not {self.crop}")
        if not 0 < self.agreement <= 1:
            raise HedgeError(f"--agreement is a share, in (0, 1], not {self.agreement}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise HedgeError(f"--scale is a range, smaller number first, not {self.scale}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise HedgeError(f"--ema is a decay in (0, 1), not {self.ema}")

    @property
    def rate(self) -> float:
        """The peak learning rate."""
        return self.lr if self.lr is not None else LR[self.net]

    @property
    def run(self) -> Path:
        """The folder of this run."""
        return self.out / (self.name or f"hed-{self.net}")
