"""What a span found, in a file of its own: whole, or not there. The first that is written stays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from runtime import files
from runtime.errors import HedgeError
from runtime.fleet.plan import Span
from runtime.outputs.checks import writing

_META, _PICTURE = b"hedge.span", b"hedge.picture"
_MAGIC = b"PAR1"  # a parquet file's last bytes
PIXELS = "pixels_"  # and a class: how many pixels of a frame it has
_GROUP = 1 << 16  # rows of a group of the joined table
_NUMBERS = {
    "frame": pa.int64(), "pts": pa.int64(), "time_s": pa.float64(), "read_ms": pa.float32(),
    "infer_ms": pa.float32(), "write_ms": pa.float32(), "miou": pa.float64(),
    "agreement": pa.float64(), "flicker": pa.float64(), "flicker_reference": pa.float64(),
}  # fmt: skip
_KINDS = {
    "str": pa.string(), "int": pa.int64(), "int | None": pa.int64(), "float": pa.float64(),
    "list[int] | None": pa.list_(pa.int64()),
}  # fmt: skip


@dataclass(kw_only=True)
class SpanRow:
    """A span's row: what it was, who did it, and what it adds up to.

    start_s, seconds: of video; work_s: it took; confusion: pixels by (target, predicted), row by
    row, None without labels; complaint: what is missing or damaged; error: why it failed, or "".
    """

    id: str
    video: str
    start_pts: int | None
    end_pts: int | None
    start_s: float = 0.0
    frames: int = 0
    seconds: float = 0.0
    work_s: float = 0.0
    attempts: int = 1
    host: str = ""
    engine: str = ""
    damaged: int = 0
    complaint: str = ""
    error: str = ""
    confusion: list[int] | None = None


def row_of(span: Span, attempts: int) -> SpanRow:
    """The row of a span about which nothing is known yet."""
    return SpanRow(
        id=span.id, video=span.video, start_pts=span.start_pts, end_pts=span.end_pts,
        start_s=span.start_s, seconds=span.seconds, attempts=attempts,
    )  # fmt: skip


class FrameRows:
    """Rows of the frames of a span, a column each."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in _NUMBERS}
        self._pixels: list[np.ndarray] = []
        self._classes = list(classes)

    def add(self, pixels: np.ndarray, **numbers: float | None) -> None:
        """A frame: (C,) pixels of each class, and what is known by the other columns' names."""
        self._pixels.append(pixels)
        for name, column in self._columns.items():
            column.append(numbers.get(name))

    def table(self, video: str) -> pa.Table:
        """All rows, with the video's name."""
        pixels = np.array(self._pixels, np.int32).reshape(-1, len(self._classes))
        names = pa.DictionaryArray.from_arrays(np.zeros(len(pixels), np.int32), [video])
        numbers = [pa.array(self._columns[name], kind) for name, kind in _NUMBERS.items()]
        shares = [pa.array(column) for column in np.ascontiguousarray(pixels.T)]
        heads = ["video", *_NUMBERS, *(PIXELS + name for name in self._classes)]
        return pa.table([names, *numbers, *shares], heads)


class Shards:
    """The folder of the spans' files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, id: str) -> Path:
        """Of a span's table."""
        return self.folder / f"{id}.parquet"

    def write(self, table: pa.Table, row: SpanRow, picture: bytes = b"") -> None:
        """Write a span's frames, its row and a WebP, unless it is there. Raises OutputError."""
        meta = {_META: msgspec.json.encode(row), _PICTURE: picture}
        sealed = table.replace_schema_metadata(meta)
        path = self.path(row.id)
        with writing(path), files.atomic_path(path, first_wins=True) as temporary:
            pq.write_table(sealed, temporary, compression="zstd")

    def whole(self) -> set[str]:
        """The ids of the spans that are done; what is damaged is removed, to be done again."""
        done = set()
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(".parquet") and not entry.name.startswith("."):
                    if _ends_well(entry.path):
                        done.add(entry.name.removesuffix(".parquet"))
                    else:
                        Path(entry.path).unlink(missing_ok=True)
        return done

    def read(self, id: str) -> tuple[pa.Table, SpanRow]:
        """A span's frames and row; HedgeError where the file is none of ours."""
        path = self.path(id)
        try:
            table = pq.read_table(path)
            row = msgspec.json.decode((table.schema.metadata or {})[_META], type=SpanRow)
        except (OSError, KeyError, pa.ArrowException, msgspec.MsgspecError) as error:
            raise HedgeError(f"{path}: unreadable ({error}); remove it and start again") from error
        return table, row

    def picture(self, id: str) -> bytes:
        """A span's WebP; nothing where there is none."""
        return (pq.read_schema(self.path(id)).metadata or {}).get(_PICTURE, b"")


def _ends_well(path: str) -> bool:
    with open(path, "rb") as file:  # noqa: PTH123  # a hundred thousand times
        if os.fstat(file.fileno()).st_size < 12:
            return False
        file.seek(-4, os.SEEK_END)
        return file.read(4) == _MAGIC


def write_spans(path: Path, rows: Sequence[SpanRow]) -> None:
    """The table of all spans, also of those that failed."""
    columns = [msgspec.to_builtins(row) for row in rows]
    schema = pa.schema([(field.name, _KINDS[str(field.type)]) for field in fields(SpanRow)])
    with writing(path), files.atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(columns, schema), temporary, compression="zstd")


def write_frames(path: Path, tables: Iterator[pa.Table]) -> None:
    """One table of all frames, some spans at a time."""
    with writing(path), files.atomic_path(path) as temporary:
        writer, waiting, rows = None, [], 0
        try:
            for table in tables:
                table = table.replace_schema_metadata(None)
                writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
                waiting.append(table)
                rows += len(table)
                if rows >= _GROUP:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting, rows = [], 0
            if writer is not None and waiting:
                writer.write_table(pa.concat_tables(waiting))
        finally:
            if writer is not None:
                writer.close()
