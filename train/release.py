"""``python -m train.release``: a checkpoint to hand on: half precision, nothing of this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from runtime import cli
from runtime.errors import HedgeError, OutputError
from train import LIBRARIES
from train.config import TrainConfig

if TYPE_CHECKING:
    from train.checkpoint import Checkpoint


@dataclass(frozen=True)
class Release:
    """Write a trained model in half precision, without training state and paths of this machine.

    It loads wherever a checkpoint does: train --start, train.evaluate, export. Statistics, biases
    and scales of norms stay in full precision; they take no room.

    Example: python -m train.release runs/street --out street.pt --license 'CC BY 4.0'
    """

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder or checkpoint file. Default: the newest run."""
    out: Path = Path("released.pt")
    """File to write."""
    license: str | None = None
    """Terms of the weights. Default: those that the checkpoint names."""
    force: bool = False
    """Overwrite the file if it exists."""


def main(config: Release) -> None:
    """The command."""
    cli.require(LIBRARIES, "train")
    # Not at the start: --help and a wrong option wait for no PyTorch.
    from train.checkpoint import Checkpoint, find_checkpoint

    source = find_checkpoint(config.run)
    if config.out.exists() and not config.force:
        raise OutputError(f"{config.out}: exists; --force replaces it")
    checkpoint = Checkpoint.load(source)
    terms = config.license or checkpoint.license
    if terms is None:
        raise HedgeError(f"{source}: names no licence; say one with --license TEXT")
    released(checkpoint, terms).save(config.out)
    cli.say(f"{config.out}  ({config.out.stat().st_size / 1e6:.1f} MB, {terms})")


def released(checkpoint: Checkpoint, terms: str) -> Checkpoint:
    """``checkpoint`` with FP16 weights of its layers, and a config that names no file."""
    config = replace(
        checkpoint.config,
        data=None, also=(), weights=None, start=None, teacher=None, edge_weights=None,
        out=TrainConfig.out, name=None, resumed=None, force=False, until=None, license=terms,
    )  # fmt: skip
    weights = {
        name: tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor
        for name, tensor in checkpoint.weights.items()
    }
    return replace(checkpoint, config=config, weights=weights, training={}, license=terms)


if __name__ == "__main__":
    cli.run(Release, main, "python -m train.release")
