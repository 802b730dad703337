"""Training crops of annotated images: rotation, scale, flip and crop in one resampling."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from runtime.bundle.classes import IGNORE
from train.augment import Key
from train.datasets.bsds import Drawing
from train.hed.teacher import blended

TURNS = 16  # as the paper: multiples of 22.5 degrees
_NOBODY = 0.02  # agreement below it is an artefact of interpolation


class Crops(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Augmented crops; the augmentation is a function of the key's seed alone."""

    def __init__(
        self,
        drawings: Sequence[Drawing],
        crop: int,
        scale: tuple[float, float],
        agreement: float,
        taught: Sequence[np.ndarray] = (),
        share: float = 0.0,
    ) -> None:
        """taught: a teacher's edges of each drawing, ``share`` of the target; none without one."""
        self.pictures = [(drawing.image, drawing.agreement) for drawing in drawings]
        self.crop, self.scale, self.agreement = crop, scale, agreement
        self.taught, self.share = taught, share

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, torch.Tensor]:
        """(3, crop, crop) uint8 RGB and (crop, crop) uint8 edge target: 0, 254 or IGNORE.

        With a teacher it is anything from 0 to 254, and IGNORE outside of the image alone.
        """
        position, seed = key
        image, agreement = self.pictures[position]
        matrix = self._matrix(np.random.default_rng(seed), image.shape[:2])
        size = (self.crop, self.crop)
        image = cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
        agreement = cv2.warpAffine(agreement, matrix, size, borderValue=(-1.0,))
        target = edge_target(agreement, self.agreement)
        if self.taught:
            soft = cv2.warpAffine(self.taught[position], matrix, size)
            inside = agreement >= 0
            target[inside] = blended(target[inside], soft[inside], self.share)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(target)

    def _matrix(self, random: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """(2, 3) affine from an image of ``size`` to the crop: flip, turn, scale about a centre."""
        scale = np.exp(random.uniform(*np.log(self.scale)))
        angle = 2 * np.pi * random.integers(TURNS) / TURNS
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        turn = np.array([[cos, -sin], [sin, cos]]) * (random.choice([-1, 1]), 1)
        reach = self.crop / 2 / scale
        centre = [_within(random, length, reach) for length in size[::-1]]
        return np.column_stack([turn, self.crop / 2 - turn @ centre])


def edge_target(agreement: np.ndarray, least: float) -> np.ndarray:
    """(H, W) float agreement → uint8: 254 from ``least`` on, 0 without any edge, else IGNORE.

    Negative agreement is outside of the image, and IGNORE as well.
    """
    target = np.full(agreement.shape, IGNORE, np.uint8)
    target[(agreement >= 0) & (agreement < _NOBODY)] = 0
    target[agreement >= least] = 254
    return target


def _within(random: np.random.Generator, length: int, reach: float) -> float:
    """A centre whose crop stays inside ``length``; the middle where it cannot."""
    return random.uniform(reach, length - reach) if length > 2 * reach else length / 2
