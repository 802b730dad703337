"""Any source of images as a stream of frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    index: 0-based position in the source; time_s: presentation time in seconds; image:
    (H, W, 3) uint8 BGR; name: a file stem for image sources (``frankfurt_000000_000294``), or
    six digits for video frames; it names label files.
    """

    index: int
    time_s: float
    image: np.ndarray
    name: str
