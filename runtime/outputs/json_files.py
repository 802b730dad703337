"""Reports and rows as JSON."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from runtime import files
from runtime.files import safe_json
from runtime.interrupt import Closing
from runtime.outputs.checks import writing

_FLUSH_SECONDS = 1.0

# By key; what there is depends on what was asked for.
Row = dict[str, str | float | list[str] | None]


def write_report(path: Path, report: object) -> None:
    """Write ``report`` as indented JSON, whole or not at all."""
    with writing(path):
        files.write_bytes(path, msgspec.json.format(safe_json(report)) + b"\n")


class RowSink(Closing):
    """JSON lines, flushed every second and at the end; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            self._file = path.open("wb")
        self._flushed = time.monotonic()

    def write(self, row: Row) -> None:
        """Append ``row`` as one line."""
        with writing(self.path):
            self._file.write(safe_json(row) + b"\n")
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                self._file.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and close; harmless when repeated."""
        with writing(self.path):
            self._file.close()
