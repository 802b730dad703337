"""What a manifest says of its golden frames: small pictures that any engine must label alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

FOLDER = "golden"  # of the bundle
Share = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True)
class Golden:
    """Frames of ``data`` with the labels that PyTorch gave.

    frames: how many; bounds: by the arithmetic of an engine, the share of the pixels with a label
    that must get it.
    """

    data: Annotated[str, Meta(max_length=1000)]
    frames: Annotated[int, Meta(ge=1, le=16)]
    bounds: Annotated[dict[str, Share], Meta(min_length=1)]

    def bound(self, arithmetic: str) -> float:
        """The share for an engine that computes in ``arithmetic``, the least where none is said."""
        return self.bounds.get(arithmetic, min(self.bounds.values()))

    def files(self) -> list[tuple[str, str]]:
        """Relative paths of each frame's picture, and of its labels."""
        names = [f"{FOLDER}/{number}" for number in range(self.frames)]
        return [(f"{name}.png", f"{name}-labels.png") for name in names]
