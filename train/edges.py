"""Edge maps of a folder of images: ``python -m train.edges``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image

from runtime import cli, files
from runtime.errors import HedgeError
from runtime.images import read_rgb
from runtime.outputs.checks import check_outputs
from train import LIBRARIES
from train.datasets.tools.tree import Tree


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
    """Run of train or train.hed, or checkpoint, that predicts the edges. Default: the newest run of
    train."""
    weights: Path | None = None
    """Edge network's weights instead of a run: published key names, or train.hed's edges.pt."""
    force: bool = False
    """Overwrite existing maps."""


def main(config: Edges) -> None:
    """Write the edge map of every image; HedgeError names the file that cannot be used."""
    cli.require(LIBRARIES, "train")
    images = _images(config.source, config.out)
    if not images:
        raise HedgeError(f"{config.source}: no images here; give a folder that holds some")
    targets = [config.out / p.relative_to(config.source).with_suffix(".png") for p in images]
    if len(set(targets)) < len(targets):
        raise HedgeError(f"{config.source}: two images differ only in their suffix; rename one")
    check_outputs(targets, None, images, config.force)
    # Not at the start: --help and a wrong option wait for no PyTorch.
    from train.hed.maps import edge_map, network

    edges = network(config.run, config.weights)
    for image, target in cli.track(list(zip(images, targets, strict=True)), "drawing edges"):
        with files.atomic_path(target) as temporary:
            Image.fromarray(edge_map(edges, read_rgb(image))).save(temporary)
    cli.say(f"{len(images)} edge maps → {config.out}")


def _images(source: Path, out: Path) -> list[Path]:
    """The images below ``source``: none that are hidden, as macOS leaves beside them, and no maps
    of an earlier time, where ``out`` lies in it."""
    root, maps = source.resolve(), out.resolve()
    found = Tree(source).images
    if maps == root:
        return list(found)
    return [path for path in found if maps not in (root / path.relative_to(source)).parents]


if __name__ == "__main__":
    cli.run(Edges, main, "python -m train.edges")
