"""Edge maps of images by an edge network, or by a segmentation network's side outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from runtime.errors import HedgeError
from train.checkpoint import Checkpoint, find_checkpoint
from train.evaluation.scoring import load_model
from train.models import DeepLab
from train.models.hed import Hed, edge_file, read_hed, upsample


@torch.inference_mode()
def edge_map(edges: Hed | DeepLab, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB → (H, W) uint8 edge strength."""
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    x = x.to(next(edges.parameters()).device)
    maps = edges(x).edges if isinstance(edges, DeepLab) else edges(x)
    logits = upsample(maps[-1], image.shape[:2])
    return (logits.sigmoid()[0, 0] * 255).round().to(torch.uint8).cpu().numpy()


def network(run: Path | None, weights: Path | None) -> Hed | DeepLab:
    """What draws edges: the network of edge weights, or of a run; HedgeError where it has none."""
    if run and weights:
        raise HedgeError(f"--run {run}, --weights {weights}: one of them draws the edges; drop one")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if run and run.is_dir() and edge_file(run).is_file():  # a run of train.hed
        weights = run
    if weights:
        return read_hed(weights).eval().to(device)
    path = find_checkpoint(run)
    model = load_model(Checkpoint.load(path))
    if model.hed is None and model.sides is None:
        raise HedgeError(f"{path}: this model draws no edges; train --variant dlse_hed")
    return (model.hed or model).to(device)
