"""Labels as a lossless video: the luma of its pixels is their training id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from runtime.errors import HedgeError
from runtime.interrupt import Closing
from runtime.outputs.checks import writing

SUFFIX = ".mkv"
# H.264 without loss: most of a label image is as in the one before, which costs next to nothing.
_LOSSLESS = {"preset": "ultrafast", "qp": "0", "bf": "0"}
_UNIT = Fraction(1, 1000)  # of the times in Matroska, in seconds
_FORMAT = "matroska"


class LabelVideo(Closing):
    """(H, W) uint8 labels, frame by frame, at their times; a context manager.

    shown: what an OutputError calls the file, where ``path`` is a name that nobody knows.
    """

    def __init__(self, path: Path, fps: Fraction, shown: Path | None = None) -> None:
        self.path, self._fps = shown or path, fps
        self._stream: av.VideoStream | None = None
        self._last = -1
        with writing(self.path):
            self._container = av.open(f"file:{path.absolute()}", "w", format=_FORMAT)

    def write(self, labels: np.ndarray, time_s: float) -> None:
        """Append a frame; HedgeError where its size is not the first one's."""
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._fps, time_base=_UNIT)
            self._stream.height, self._stream.width = labels.shape
            self._stream.pix_fmt, self._stream.options = _format(labels), _LOSSLESS
        size = (self._stream.height, self._stream.width)
        if labels.shape != size:
            raise HedgeError(
                f"frames change size, from {size[1]}×{size[0]} to {labels.shape[1]}×"
                f"{labels.shape[0]}, which a video of labels cannot; leave --save-labels"
            )
        frame = _grey(labels)
        frame.pts = self._last = max(self._last + 1, round(time_s / _UNIT))
        frame.time_base = _UNIT
        with writing(self.path):
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file; harmless when repeated."""
        stream, self._stream = self._stream, None
        with writing(self.path), self._container as container:
            if stream is not None:
                container.mux(stream.encode(None))


def read_labels(path: Path) -> Iterator[np.ndarray]:
    """(H, W) uint8 labels of each frame of a file of labels."""
    with av.open(f"file:{path.absolute()}") as container:
        for frame in container.decode(video=0):
            luma = frame.planes[0]
            rows = np.frombuffer(luma, np.uint8).reshape(-1, luma.line_size)
            yield rows[: frame.height, : frame.width].copy()


def _grey(labels: np.ndarray) -> av.VideoFrame:
    """A frame whose luma is ``labels``, as they are: no conversion may scale them."""
    frame = av.VideoFrame(labels.shape[1], labels.shape[0], _format(labels))
    values: tuple[np.ndarray | int, ...] = (labels, 128, 128)
    for plane, value in zip(frame.planes, values, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        rows[: plane.height, : plane.width] = value
    return frame


def _format(labels: np.ndarray) -> str:
    """Of pixels: half the colours' size where both sides are even."""
    return "yuv444p" if any(side % 2 for side in labels.shape) else "yuv420p"


def join(parts: Sequence[Path], target: Path) -> None:
    """One video of several that follow each other, packet by packet, nothing encoded anew."""
    with writing(target), av.open(f"file:{target.absolute()}", "w", format=_FORMAT) as joined:
        stream = None
        for part in parts:
            with av.open(f"file:{part.absolute()}") as source:
                if stream is None:
                    stream = joined.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        joined.mux(packet)
