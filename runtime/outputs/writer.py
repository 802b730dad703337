"""What is written of each frame: the video, the label image, the row, the picture on the page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtime import files
from runtime.outputs.alarms import Zone
from runtime.outputs.annotations import annotation_sink
from runtime.outputs.json_files import Row, RowSink
from runtime.outputs.label_images import LabelSink
from runtime.outputs.overlay import Look, Overlay
from runtime.outputs.pictures import PictureSink, are_photos, takes_pictures
from runtime.outputs.shares import ShareSink
from runtime.outputs.video_file import VideoSink
from runtime.outputs.window import Window
from runtime.segment import Prediction, Segmenter
from runtime.sources.base import Frame, Source

if TYPE_CHECKING:
    from runtime.web.server import WebView


@dataclass(frozen=True)
class Wanted:
    """What is to be written of each frame.

    out: a video, or the place of photos' pictures; labels: a folder of palette PNGs; metrics: a
    file of JSON lines; shares: a CSV of the classes' shares; blend: show the frames under the
    colours; look: how classes are drawn; unknown: labels may be 255; zones: are
    outlined; annotations: outlines for a labelling tool; window: show the frames on the screen.
    """

    out: Path | None = None
    labels: Path | None = None
    metrics: Path | None = None
    blend: bool = True
    look: Look = field(default_factory=Look)
    shares: Path | None = None
    unknown: bool = False
    zones: Sequence[Zone] = ()
    annotations: Path | None = None
    window: bool = False


class Writer:
    """The outputs that a run asked for, opened together; a context manager.

    view: the page, where one is served.
    """

    def __init__(
        self, source: Source, segmenter: Segmenter, wanted: Wanted, view: WebView | None
    ) -> None:
        manifest, out, labels = segmenter.manifest, wanted.out, wanted.labels
        self._view = view
        self._blend = wanted.blend
        footer = f"{manifest.name}  ·  {manifest.precision}  ·  {segmenter.backend}"
        photos = out is not None and takes_pictures(out, source)
        self._numbers = not photos  # which belong to a run, not to a picture that is kept
        self._overlay = Overlay(
            manifest.classes, "" if photos else footer, wanted.look, wanted.zones
        )
        self._labels = None if labels is None else LabelSink(labels, manifest.classes)
        self._rows = None if wanted.metrics is None else RowSink(wanted.metrics)
        self._shares = None
        if wanted.shares is not None:
            self._shares = ShareSink(wanted.shares, manifest.classes, wanted.unknown)
        self._annotations = None
        if wanted.annotations is not None:
            self._annotations = annotation_sink(wanted.annotations, manifest.classes)
        self._photos = source.files if are_photos(source) else []
        self._clocked = source.timed or source.live
        self._video = None if out is None or photos else _video_sink(out, source)
        self._pictures = PictureSink(out) if out is not None and photos else None
        self._window = Window(manifest.name, bool(self._photos)) if wanted.window else None

    @property
    def videos(self) -> list[Path]:
        """The video's files so far: more than one where the frames have changed their size."""
        return [] if self._video is None else self._video.files

    @property
    def pictures(self) -> Path | None:
        """The picture of a photo, or the folder of several."""
        return None if self._pictures is None else self._pictures.place

    @property
    def left(self) -> bool:
        """Whether who looked at the window has closed it."""
        return self._window is not None and self._window.closed

    def write(self, prediction: Prediction, status: str, known: Row) -> float:
        """Write a frame's results; the milliseconds it took, without the row that holds them."""
        start = time.perf_counter()
        if self._shares is not None:
            self._shares.write(prediction.frame, prediction.labels)
        if self._annotations is not None:
            self._annotations.write(self._file_name(prediction.frame), prediction.labels)
        if self._labels is not None:
            self._labels.write(prediction.frame.name, prediction.labels)
        picture = None
        if not (self._video is self._pictures is self._window is None):
            picture = self._picture(prediction, status)
            self._draw(picture, prediction.frame)
        if self._view is not None and self._view.wants():
            self._view.show(prediction.frame.image, prediction.labels)
        if self._view is not None:
            self._view.count(prediction.labels)
        write_ms = (time.perf_counter() - start) * 1e3
        if self._rows is not None:
            self._rows.write({**_row(prediction, write_ms), **known})
        if self._window is not None and picture is not None:  # whose waiting is no work
            self._window.show(picture)
        return write_ms

    def _file_name(self, frame: Frame) -> str:
        """The photo's own, else the one that CVAT gives a frame."""
        return self._photos[frame.index].name if self._photos else f"frame_{frame.index:06d}.png"

    def _draw(self, picture: np.ndarray, frame: Frame) -> None:
        if self._video is not None:
            time_s = frame.time_s if self._clocked else None
            self._video.write(picture, time_s, frame.pixel_aspect)
        if self._pictures is not None:
            self._pictures.write(picture, frame.name)

    def _picture(self, prediction: Prediction, status: str) -> np.ndarray:
        if self._blend:
            live = status if self._numbers else ""
            return self._overlay.draw(prediction.frame.image, prediction.labels, live)
        return self._overlay.colors(prediction.labels)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:  # all are closed, also when the first one cannot be
            for sink in (
                self._video, self._rows, self._shares, self._annotations, self._window,
            ):  # fmt: skip
                if sink is not None:
                    stack.callback(sink.close)


def _video_sink(out: Path, source: Source) -> VideoSink:
    # A camera that changes its size goes on in another file; a folder of photos stays one video.
    return VideoSink(out, source.fps, source.live, source.timed, source.time_base)


def _row(prediction: Prediction, write_ms: float) -> Row:
    frame = prediction.frame
    return {
        "index": frame.index,
        "time_s": frame.time_s,
        "name": files.printable(frame.name),
        "read_ms": prediction.read_ms,
        "infer_ms": prediction.infer_ms,
        "write_ms": write_ms,
    }
