"""Reports and rows as JSON."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from runtime import files
from runtime.files import safe_json
from runtime.interrupt import Closing
from runtime.outputs.checks import writing

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
    """JSON lines, each in the file, whole, once it is written; a context manager.

    path: "-" is standard output.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            if path == files.STDOUT:
                self._file = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
            else:
                self._file = path.open("wb")

    def write(self, row: Row) -> None:
        """Append ``row`` as one line."""
        with writing(self.path):
            self._file.write(safe_json(row) + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Flush and close; harmless when repeated."""
        with writing(self.path):
            self._file.close()
