"""What a decoder must know of a backbone, and what to say of weights that do not fit one."""

from __future__ import annotations

from dataclasses import dataclass

from train.models.blocks import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class BackboneSpec:
    """Where a network is cut, what comes out, and how its input is normalised.

    cuts: ends of the four stages in torchvision's ``features`` (None where stages have names);
    channels: of the four stages; decoder: widths up to 1/8 and at 1/4; mean, std: RGB in 0..1.
    """

    cuts: tuple[int, int, int, int] | None
    channels: tuple[int, int, int, int]
    decoder: tuple[int, int]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


def describe_keys(missing: list[str], extra: list[str], shapes: list[str]) -> str:
    """One line that names the first keys in which a state dict differs."""
    parts = {"missing": missing, "unexpected": extra, "of another shape": shapes}
    return "; ".join(
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
        for what, keys in parts.items()
        if keys
    )
