"""Image files as frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2

from runtime import images
from runtime.errors import HedgeError
from runtime.sources.base import Frame, Source

IMAGES_FPS = Fraction(10)  # of an image folder, which carries no times


class ImageSource(Source):
    """Image files as frames; one that does not decode whole is skipped and recorded."""

    timed = False

    def __init__(self, origin: str, paths: list[Path]) -> None:
        doubled = [stem for stem, n in Counter(p.stem for p in paths).items() if n > 1]
        if doubled:
            raise HedgeError(
                f"{origin}: {len(doubled)} names occur twice, such as {doubled[0]}; labels and "
                "results go by name, so give folders with the same names one at a time"
            )
        super().__init__(origin, paths, IMAGES_FPS, len(paths))

    @property
    def names(self) -> Sequence[str]:
        return [path.stem for path in self.files]

    def _frames(self) -> Iterator[Frame]:
        for index, path in enumerate(self.files):
            try:
                image = cv2.cvtColor(images.read_rgb(path), cv2.COLOR_RGB2BGR)
            except HedgeError as error:
                self._fault(str(error))
                continue
            yield Frame(index, float(index / self.fps), image, path.stem)
