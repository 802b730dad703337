"""Edge maps of PiDiNet's published weights, as PNGs that ``hedge train-edges --teacher`` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from runtime import cli, files
from runtime.errors import HedgeError
from runtime.images import IMAGE_SUFFIXES, read_rgb
from train.checkpoint import read_tensors

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB, 0..1
WIDTHS, TAIL, BLOCKS = (60, 120, 240, 240), 24, 4
PIXELS = ("central", "angular", "radial", "plain")  # of the four blocks of every stage
ROUND = (3, 0, 1, 6, 4, 2, 7, 8, 5)  # a 3×3 kernel, turned by 45 degrees around its middle
OUTER, INNER = (0, 2, 4, 10, 14, 20, 22, 24), (6, 7, 8, 11, 13, 16, 17, 18)  # rings of a 5×5 one


def differences(weight: Tensor, pixels: str) -> Tensor:
    """The (O, I, 3, 3) weights of pixel differences as those of a plain convolution."""
    flat = weight.flatten(2)
    if pixels == "central":  # each pixel less the middle one
        flat = flat.clone()
        flat[..., 4] -= weight.sum((2, 3))
    elif pixels == "angular":  # less its neighbour on the ring
        flat = flat - flat[..., ROUND]
    elif pixels == "radial":  # the ring at two pixels less the ring at one
        ring = flat[..., 1:]
        flat = weight.new_zeros(*weight.shape[:2], 25)
        flat[..., OUTER], flat[..., INNER] = ring, -ring
    side = round(flat.shape[-1] ** 0.5)
    return flat.unflatten(2, (side, side))


def block(width: int, out: int, pixels: str) -> nn.ModuleDict:
    """A depthwise convolution of pixel differences and a 1×1; where it shrinks, a shortcut."""
    size = 5 if pixels == "radial" else 3
    parts: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(width, width, size, padding=size // 2, groups=width, bias=False),
        "conv2": nn.Conv2d(width, out, 1, bias=False),
    }
    return nn.ModuleDict(parts)


class PiDiNet(nn.Module):
    """(N, 3, H, W) normalised RGB → (N, 1, H, W) edges in 0..1; parts as published."""

    def __init__(self) -> None:
        super().__init__()
        self.init_block = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        before = WIDTHS[0]
        for stage, width in enumerate(WIDTHS, 1):
            for number, pixels in enumerate(PIXELS, 1):
                if (stage, number) == (1, 1):
                    continue  # the first block of all is init_block
                part = block(before, width, pixels)
                if number == 1:
                    part["shortcut"] = nn.Conv2d(before, width, 1)
                setattr(self, f"block{stage}_{number - (stage == 1)}", part)
                before = width
        self.dilations = nn.ModuleList(
            nn.ModuleDict(
                {"conv1": nn.Conv2d(width, TAIL, 1)}
                | {
                    f"conv2_{number}": nn.Conv2d(TAIL, TAIL, 3, 1, rate, rate, bias=False)
                    for number, rate in enumerate((5, 7, 9, 11), 1)
                }
            )
            for width in WIDTHS
        )
        self.attentions = nn.ModuleList(
            nn.ModuleDict(
                {
                    "conv1": nn.Conv2d(TAIL, BLOCKS, 1),
                    "conv2": nn.Conv2d(BLOCKS, 1, 3, padding=1, bias=False),
                }
            )
            for _ in WIDTHS
        )
        self.conv_reduces = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv2d(TAIL, 1, 1)}) for _ in WIDTHS
        )
        self.classifier = nn.Conv2d(len(WIDTHS), 1, 1)

    def load(self, state: dict[str, Tensor]) -> None:
        """Published weights, whose differences become plain convolutions."""
        plain = {}
        for name, tensor in state.items():
            name = name.removeprefix("module.")
            found = name.partition(".")[0]
            if found == "init_block":
                tensor = differences(tensor, PIXELS[0])
            elif found.startswith("block") and name.endswith("conv1.weight"):
                stage, number = map(int, found.removeprefix("block").split("_"))
                tensor = differences(tensor, PIXELS[number - (stage > 1)])
            plain[name] = tensor
        self.load_state_dict(plain)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised RGB → (N, 1, H, W) edges in 0..1."""
        size, sides = x.shape[-2:], []
        x = self.init_block(x)
        for stage in range(len(WIDTHS)):
            for number in range(1, 4 + (stage > 0)):
                part = getattr(self, f"block{stage + 1}_{number}")
                if "shortcut" in part:
                    x = F.max_pool2d(x, 2)
                near = part["conv2"](part["conv1"](x).relu())
                x = near + (part["shortcut"](x) if "shortcut" in part else x)
            sides.append(F.interpolate(self._side(stage, x), size, mode="bilinear"))
        return self.classifier(torch.cat(sides, 1)).sigmoid()

    def _side(self, stage: int, x: Tensor) -> Tensor:
        wide, look = self.dilations[stage], self.attentions[stage]
        x = wide["conv1"](x.relu())
        x = sum(wide[name](x) for name in wide if name != "conv1")
        x = x * look["conv2"](look["conv1"](x.relu())).sigmoid()
        return self.conv_reduces[stage]["conv"](x)


@torch.inference_mode()
def edges(network: PiDiNet, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB → (H, W) uint8 edge strength."""
    x = torch.from_numpy((image / 255 - MEAN) / STD).float().permute(2, 0, 1)[None]
    return (network(x)[0, 0].numpy() * 255).round().astype(np.uint8)


@dataclass(frozen=True)
class PidinetEdges:
    """Draw PiDiNet's edges of images, as maps that hedge train-edges --teacher takes.

    The weights' own terms hold for what is taught with them.

    Example: python docs/recipes/pidinet_edges.py table5_pidinet.pth bsds500/images/train maps
    """

    weights: Annotated[Path, tyro.conf.Positional]
    """PiDiNet trained on BSDS500 (Su et al., ICCV 2021): 60 channels, with all its parts."""
    images: Annotated[Path, tyro.conf.Positional]
    """Folder of images."""
    out: Annotated[Path, tyro.conf.Positional]
    """Folder for NAME.png of each; white is edge."""


def main(config: PidinetEdges) -> None:
    """Draw them one by one."""
    network = PiDiNet().eval()
    try:
        network.load(read_tensors(config.weights)["state_dict"])
    except (KeyError, RuntimeError) as error:
        raise HedgeError(f"{config.weights}: not PiDiNet's published weights") from error
    images = sorted(p for p in config.images.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise HedgeError(f"{config.images}: no images in this folder")
    for path in cli.track(images, "drawing edges"):
        drawn = edges(network, read_rgb(path))
        with files.atomic_path(config.out / f"{path.stem}.png") as temporary:
            Image.fromarray(drawn).save(temporary)


if __name__ == "__main__":
    cli.run(PidinetEdges, main, "python docs/recipes/pidinet_edges.py")
