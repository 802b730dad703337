"""Which share of each frame every class has, as a table that spreadsheets read."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from runtime import files
from runtime.bundle.classes import IGNORE, ClassSet
from runtime.errors import HedgeError
from runtime.interrupt import Closing
from runtime.outputs.checks import writing
from runtime.sources.base import Frame


def check_table(path: Path) -> None:
    """Raise HedgeError for a file's name that says that it is no CSV."""
    device = path.exists() and not path.is_file()
    if path.suffix.lower() != ".csv" and not device:
        raise HedgeError(f"{path}: shares are written as CSV; end its name in .csv")


class ShareSink(Closing):
    """A CSV with a row a frame and a column a class; a context manager.

    A row is in the file, whole, once it is written: half of one, left by a process that is killed,
    would end in another number. unknown: whether labels may be 255, the last column then.
    """

    def __init__(self, path: Path, classes: ClassSet, unknown: bool) -> None:
        self.path = path
        self._values = [*range(len(classes)), *([IGNORE] if unknown else [])]
        with writing(path):
            self._file = path.open("w", encoding="utf-8", newline="", buffering=1)
        self._rows = csv.writer(self._file)
        names = [*classes.names, *(["unknown"] if unknown else [])]
        with writing(path):
            self._rows.writerow(["index", "time_s", "name", *names])

    def write(self, frame: Frame, labels: np.ndarray) -> None:
        """Append the shares, 0..1, of ``frame``'s (H, W) uint8 ``labels``."""
        shares = np.bincount(labels.ravel(), minlength=256)[self._values] / labels.size
        row = (frame.index, f"{frame.time_s:.3f}", files.printable(frame.name))
        with writing(self.path):
            self._rows.writerow([*row, *(f"{share:.6f}" for share in shares)])

    def close(self) -> None:
        """Flush and close; harmless when repeated."""
        with writing(self.path):
            self._file.close()
