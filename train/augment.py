"""From an index of labelled images to augmented training samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, Sampler, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from runtime.bundle.classes import IGNORE
from runtime.errors import HedgeError
from train.datasets.index import Index
from train.losses import label_boundaries

Key = tuple[int, int]  # (position in the index, seed of its augmentation)


class Sample(NamedTuple):
    """image: (3, H, W) uint8 RGB; target: (H, W) uint8 training ids; edges: (H, W) uint8 edge
    strength 0..254. IGNORE = 255 in the last two."""

    image: torch.Tensor
    target: torch.Tensor
    edges: torch.Tensor


class RandomScale(v2.Transform):
    """Resize to ``size`` (H, W) times a factor drawn from ``scale``: masks by the nearest pixel.

    The shape becomes that of ``size``, as in deployment, whatever the image's own (torchvision's
    ScaleJitter keeps the image's, and reads its target size as width, height).
    """

    def __init__(self, size: tuple[int, int], scale: tuple[float, float]) -> None:
        super().__init__()
        self.size, self.scale = size, scale

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """torchvision's hook: the size (H, W) of one sample."""
        low, high = self.scale
        factor = low + float(torch.rand(1)) * (high - low)
        return {"size": [max(1, round(side * factor)) for side in self.size]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """torchvision's hook: resize an image or a mask.

        torchvision takes the upper left pixel for a mask's nearest, so that labels would lie half a
        pixel to the right of their image, and below it.
        """
        if not isinstance(inpt, tv_tensors.Mask):
            return v2.functional.resize(inpt, params["size"], antialias=True)
        mask = F.interpolate(
            inpt.as_subclass(torch.Tensor)[None], params["size"], mode="nearest-exact"
        )
        return tv_tensors.wrap(mask[0], like=inpt)


def training_transform(
    size: tuple[int, int], crop: tuple[int, int], scale: tuple[float, float]
) -> v2.Transform:
    """Flip, scale around ``size``, crop (padding with IGNORE), jitter colours; masks by nearest."""
    mean_rgb = (124, 116, 104)
    fill = {tv_tensors.Image: mean_rgb, tv_tensors.Mask: IGNORE}
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            RandomScale(size, scale),
            v2.RandomCrop(crop, pad_if_needed=True, fill=fill),
            v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03),
        ]
    )


Loaded = Sample | HedgeError  # a sample or a batch of them, or what is wrong with its files


class TrainingSet(Dataset[Loaded]):
    """Augmented samples; the augmentation is a function of the key's seed alone.

    A sample therefore depends neither on the number of workers, nor on the process that loads it,
    nor on where a run was resumed. A HedgeError is returned as a value: raised in a loader process,
    its message would be that process's traceback.
    """

    def __init__(self, index: Index, transform: v2.Transform) -> None:
        self.index = index
        self.transform = transform

    def __getitem__(self, key: Key) -> Loaded:
        try:
            return self.sample(key)
        except HedgeError as error:
            return error

    def sample(self, key: Key) -> Sample:
        """The sample of a key; HedgeError names a file that cannot be read."""
        position, seed = key
        item = self.index.items[position]
        image, target = self.index.read(item)
        drawn = self.index.read_edges(item)
        masks = [target] if drawn is None else [target, np.minimum(drawn, IGNORE - 1)]
        tensors = [tv_tensors.Image(torch.from_numpy(image.copy()).permute(2, 0, 1))]
        tensors += [tv_tensors.Mask(torch.from_numpy(mask.copy())[None]) for mask in masks]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            picture, target_mask, *edge_mask = self.transform(*tensors)
        labels = target_mask.as_subclass(torch.Tensor)[0]
        edges = edge_mask[0].as_subclass(torch.Tensor)[0] if edge_mask else label_boundaries(labels)
        return Sample(picture.as_subclass(torch.Tensor), labels, edges)


def collate(samples: list[Loaded]) -> Loaded:
    """A batch of samples, or the first error among them."""
    wrong = next((sample for sample in samples if isinstance(sample, HedgeError)), None)
    return wrong or default_collate(samples)


class BatchSampler(Sampler[list[Key]]):
    """This process's share of each global batch, from batch ``start`` on; determined by the seed.

    An epoch is len(index) // batch batches of a fresh permutation (at least one). A data set
    smaller than the batch is repeated until it fills one. repeats: (length,), how often each image
    is drawn in an epoch on average, of mean 1; None draws each once.
    """

    def __init__(
        self,
        length: int,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        repeats: np.ndarray | None = None,
    ) -> None:
        if batch % world:
            raise HedgeError(f"--batch {batch} does not split over {world} processes")
        self.length, self.batch, self.seed = length, batch, seed
        self.rank, self.world = rank, world
        self.repeats = repeats
        self.epoch = 0
        self.start = 0

    @property
    def batches(self) -> int:
        """Batches in a whole epoch."""
        return max(1, self.length // self.batch)

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        random = np.random.default_rng([self.seed, self.epoch])
        images = np.arange(self.length)
        if self.repeats is not None:
            images = images.repeat((self.repeats + random.random(self.length)).astype(int))
        order = np.resize(random.permutation(images), self.batches * self.batch)
        seeds = random.integers(2**63, size=len(order))
        for number in range(self.start, self.batches):
            share = slice(number * self.batch + self.rank, (number + 1) * self.batch, self.world)
            yield list(zip(order[share].tolist(), seeds[share].tolist(), strict=True))
