"""Label images: one PNG a frame."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from runtime import files
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.outputs.checks import writing
from runtime.outputs.overlay import UNKNOWN


class LabelSink:
    """A palette PNG for each frame: training ids as values, class colours to look at.

    255, of no class, is gray as in pictures.
    """

    def __init__(self, folder: Path, classes: ClassSet) -> None:
        self.folder = folder
        palette = classes.palette()
        palette[IGNORE] = UNKNOWN
        self._palette = np.ascontiguousarray(palette[:, ::-1]).tobytes()  # RGB

    def write(self, name: str, labels: np.ndarray) -> None:
        """Write (H, W) uint8 ``labels`` as ``name.png``, whole or not at all."""
        image = Image.fromarray(labels)
        image.putpalette(self._palette)
        data = io.BytesIO()
        image.save(data, "PNG", compress_level=1)
        path = self.folder / f"{name}.png"
        with writing(path):
            files.write_bytes(path, data.getvalue())
