"""Drift: agreement and flicker of an engine beside another one, without labels."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np

from runtime import files
from runtime.accuracy.flicker import Flicker, scaled_size
from runtime.outputs.overlay import Overlay
from runtime.segment import Prediction, Segmenter

_WORST = 5  # seconds that are named, and shown
_LATEST = 100_000  # frames that the percentile is of: a stream may run for days
_SHOWN_WIDTH = 640  # of each of the three pictures side by side


@dataclass
class Second:
    """One second of the stream: its agreement so far, and its worst frame."""

    start_s: int
    agreements: list[float]
    worst: float = 2.0  # above any share: the first frame is the worst so far
    picture: np.ndarray | None = None

    @property
    def agreement(self) -> float:
        """Mean share of the second's pixels that both engines label alike, in 0..1."""
        return fmean(self.agreements)


@dataclass(frozen=True)
class Apart:
    """A second of the stream, and the share of its pixels that both engines label alike."""

    second: int
    agreement: float


@dataclass(frozen=True)
class DriftReport:
    """What a ``Drift`` found, all in 0..1; None before the first frame.

    reference: the other bundle's name; agreement_p5: of the latest 100,000 frames; worst: seconds.
    """

    reference: str
    agreement: float | None
    agreement_p5: float | None
    flicker: float | None
    flicker_reference: float | None
    worst: list[Apart]


@dataclass
class _Mean:
    """Of all that was added, None before."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


class Drift:
    """A second engine on the same frames: agreement, flicker of both, the worst seconds."""

    def __init__(self, reference: Segmenter, overlay: Overlay) -> None:
        self.reference = reference
        self._overlay = overlay
        self._flicker = Flicker()
        self._before: tuple[np.ndarray, np.ndarray] | None = None
        self._latest: deque[float] = deque(maxlen=_LATEST)  # agreements
        self._agreement, self._flickers = _Mean(), (_Mean(), _Mean())
        self._seconds: list[Second] = []  # the worst ones so far, and the one that runs

    def update(self, prediction: Prediction) -> dict[str, float | None]:
        """Compare a frame; its row: agreement, flicker, flicker_reference, in 0..1."""
        image, labels = prediction.frame.image, prediction.labels
        other = self.reference(image)
        agreement = float((labels == other).mean())
        self._latest.append(agreement)
        self._agreement.add(agreement)
        self._flicker.follow(image)
        shares: list[float | None] = [None, None]
        if self._before is not None:
            pairs = zip(self._before, (labels, other), strict=True)
            shares = [self._flicker.share(before, now) for before, now in pairs]
        for share, mean in zip(shares, self._flickers, strict=True):
            if share is not None:
                mean.add(share)
        self._before = labels, other
        self._remember(prediction, other, agreement)
        return {"agreement": agreement, "flicker": shares[0], "flicker_reference": shares[1]}

    def report(self) -> DriftReport:
        """The figures so far."""
        own, other = (mean.value for mean in self._flickers)
        return DriftReport(
            reference=self.reference.manifest.name,
            agreement=self._agreement.value,
            agreement_p5=float(np.percentile(self._latest, 5)) if self._latest else None,
            flicker=own,
            flicker_reference=other,
            worst=[Apart(second.start_s, second.agreement) for second in self._worst()],
        )

    def save(self, folder: Path) -> list[Path]:
        """Write the worst frame of each of the worst seconds: ours, the reference's, where they
        differ, side by side as PNG."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for second in self._worst():
            if second.picture is not None:
                path = folder / f"second_{second.start_s:05d}.png"
                files.write_bytes(path, cv2.imencode(".png", second.picture)[1].tobytes())
                paths.append(path)
        return paths

    def _worst(self) -> list[Second]:
        return sorted(self._seconds, key=lambda second: second.agreement)[:_WORST]

    def _remember(self, prediction: Prediction, other: np.ndarray, agreement: float) -> None:
        start = int(prediction.frame.time_s)
        if not self._seconds or self._seconds[-1].start_s != start:
            self._seconds = [*self._worst(), Second(start, [])]
        second = self._seconds[-1]
        second.agreements.append(agreement)
        if agreement < second.worst:
            second.worst = agreement
            second.picture = self._side_by_side(prediction, other)

    def _side_by_side(self, prediction: Prediction, other: np.ndarray) -> np.ndarray:
        image, labels = prediction.frame.image, prediction.labels
        differ = image // 3
        differ[labels != other] = (0, 0, 255)
        text = f"{prediction.frame.time_s:.2f} s"
        panels = [
            self._overlay.draw(image, labels, text).copy(),
            self._overlay.draw(image, other, f"{text}  {self.reference.manifest.name}").copy(),
            differ,
        ]
        size = scaled_size(image, _SHOWN_WIDTH)
        return np.hstack([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in panels])
