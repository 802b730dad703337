"""What ``python -m train.evaluate`` can be asked; needs none of the heavy libraries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from runtime.fleet.config import Cores
from runtime.numbers import Side, settle


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained model: mIoU, IoU per class, pixel accuracy, boundary F.

    Examples:

    python -m train.evaluate runs/dlse_hed-mobilenet_v2 --data camvid --json r.json

    python -m train.evaluate runs/mycamera --fleet /mnt/parts --address auto
    """

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder or checkpoint file. Default: the newest run."""
    data: Path | None = None
    """The data set. Default: the one the model was trained on."""
    split: str = "val"
    """Split of the data set."""
    size: tuple[Side, Side] | None = None
    """Network input H W. Default: the size the model was validated at."""
    save: Path | None = None
    """Write input | target | prediction | edges of every image side by side to this folder."""
    sheet: Path | None = None
    """Write the worst and the median images with labels and errors to this PNG."""
    matrix: Path | None = None
    """Write the confusion matrix to this PNG."""
    json: Path | None = None
    """Write the scores to this file."""
    fleet: Path | None = None
    """Evaluate in parts, on the workers of a Ray cluster or of this machine: a folder that every
    machine writes their counts into. It may be killed, and goes on with what has no file yet."""
    address: str | None = None
    """With --fleet: the Ray cluster; auto: the one this machine belongs to. Default: this machine
    alone."""
    cores: Cores = 4
    """With --fleet: CPU cores of each worker, on machines without a GPU."""

    def __post_init__(self) -> None:
        settle(self)
