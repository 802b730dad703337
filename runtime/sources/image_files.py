"""Image files as frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import cv2

from runtime import images
from runtime.errors import HedgeError
from runtime.files import composed
from runtime.sources.base import Frame, FrameNames, Source, frame_name

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
    def names(self) -> Container[str]:
        """See ``Source``: the stems of the files."""
        return frozenset(composed(path.stem) for path in self.files)

    def _frames(self) -> Iterator[Frame]:
        for index, path in enumerate(self.files):
            try:
                image = cv2.cvtColor(images.read_rgb(path), cv2.COLOR_RGB2BGR)
            except HedgeError as error:
                self.record.add(str(error))
                continue
            yield Frame(index, float(index / self.fps), image, path.stem)


class AnimationSource(Source):
    """The pictures of an animated GIF, WebP, PNG or AVIF, at their own times."""

    def __init__(self, path: Path, count: int) -> None:
        super().__init__(str(path), [path], Fraction(1000, _first_ms(path)), count)
        self.time_base = Fraction(1, 1000)

    @property
    def names(self) -> Container[str]:
        """See ``Source``: six digits."""
        return FrameNames(self.expected or 0)

    def _frames(self) -> Iterator[Frame]:
        time_s = 0.0
        try:
            for index, (rgb, shown_s) in enumerate(images.animation(self.files[0])):
                image = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
                yield Frame(index, round(time_s, 3), image, frame_name(index))
                time_s += shown_s
        except HedgeError as error:
            self.record.add(str(error))


def _first_ms(path: Path) -> int:
    """Milliseconds that the first picture is shown, which is how long most are."""
    _, shown_s = next(images.animation(path))
    return max(round(1000 * shown_s), 1)


def open_image(path: Path, origin: str) -> Source:
    """An image file as one frame, an animation as all of its pictures."""
    with suppress(HedgeError):  # which the source counts as damaged
        if (count := images.pictures(path)) > 1:
            return AnimationSource(path, count)
    return ImageSource(origin, [path])
