"""Reports and rows as JSON."""

from __future__ import annotations

import os
import sys
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
    """Write ``report`` as indented JSON, whole or not at all; to standard output for "-"."""
    content = msgspec.json.format(safe_json(report)) + b"\n"
    if path == files.STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        return
    with writing(path):
        files.write_bytes(path, content)


class RowSink(Closing):
    """JSON lines, flushed every second and at the end; a context manager.

    path: "-" is standard output.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            if path == files.STDOUT:
                self._file = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
            else:
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
