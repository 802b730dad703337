"""Edge maps of a folder of images: ``python -m train.edges``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from PIL import Image

from runtime import cli, files
from runtime.errors import HedgeError
from runtime.images import IMAGE_SUFFIXES, read_rgb
from runtime.outputs.checks import check_outputs
from train.checkpoint import Checkpoint, find_checkpoint
from train.evaluation.scoring import load_model
from train.models import DeepLab
from train.models.hed import Hed, read_hed, upsample


@dataclass(frozen=True)
class Edges:
    """Write the edge map of every image below a folder: 8-bit gray PNG, white is edge.

    The maps come from an edge network or from a segmentation network's side outputs.

    Example: python -m train.edges --in data/images --out data/edges
    """

    source: Annotated[Path, tyro.conf.arg(name="in")]
    """Folder of images, searched recursively."""
    out: Path
    """Output folder, with the same tree."""
    run: Path | None = None
    """Run or checkpoint that predicts the edges. Default: the newest run."""
    weights: Path | None = None
    """Edge network's weights instead of a run: published key names, or train.hed's edges.pt."""
    force: bool = False
    """Overwrite existing maps."""


def main(config: Edges) -> None:
    """Write the edge map of every image; HedgeError names the file that cannot be used."""
    images = sorted(p for p in config.source.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise HedgeError(f"{config.source}: no images here; give a folder that holds some")
    targets = [config.out / p.relative_to(config.source).with_suffix(".png") for p in images]
    if len(set(targets)) < len(targets):
        raise HedgeError(f"{config.source}: two images differ only in their suffix; rename one")
    check_outputs(targets, None, images, config.force)
    edges = _load(config)
    for image, target in cli.track(list(zip(images, targets, strict=True)), "drawing edges"):
        with files.atomic_path(target) as temporary:
            Image.fromarray(edge_map(edges, read_rgb(image))).save(temporary)
    cli.say(f"{len(images)} edge maps → {config.out}")


@torch.inference_mode()
def edge_map(edges: Hed | DeepLab, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB → (H, W) uint8 edge strength."""
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    x = x.to(next(edges.parameters()).device)
    maps = edges(x).edges if isinstance(edges, DeepLab) else edges(x)
    logits = upsample(maps[-1], image.shape[:2])
    return (logits.sigmoid()[0, 0] * 255).round().to(torch.uint8).cpu().numpy()


def _load(config: Edges) -> Hed | DeepLab:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if config.weights:
        return read_hed(config.weights).eval().to(device)
    path = find_checkpoint(config.run)
    model = load_model(Checkpoint.load(path))
    if model.hed is None and model.sides is None:
        raise HedgeError(f"{path}: this model draws no edges; train --variant dlse_hed")
    return (model.hed or model).to(device)


if __name__ == "__main__":
    cli.run(Edges, main, "python -m train.edges")
