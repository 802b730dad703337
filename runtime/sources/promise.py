"""What a container promises, where it is known to keep it: what is missing is then told.

Frames: the sample table of an mp4 or mov, without what its edit list hides. Seconds: the length of
a Matroska track, and of the pieces of an HLS playlist. Bytes: the sizes that the outer elements of
mp4, mov, Matroska, WebM, AVI and WAV begin with, and whole packets of an MPEG-TS. Other numbers
(the frame counts of AVI, GIF and IVF headers, bit rates, the length of a whole file, which may be
its sound's) are estimates or wishes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import av

_SLACK_S = 0.25  # of the frames before a hole
_ROUNDED = 0.1  # of a playlist's length
_TS_PACKET = 188  # bytes
_JPEG_TAIL = 4096  # bytes, in which a whole picture's end is
_BOXES = 100_000  # of an mp4 that are looked at: two for each second that our own files hold
_BOX_NAMES = (
    b"ftyp moov mdat moof mfra sidx ssix styp emsg prft free skip wide uuid pnot meta".split()
)

# What a Matroska segment consists of: seek head, info, tracks, chapters, clusters, cues,
# attachments, tags; and what may lie between them: padding, a checksum.
_PARTS = {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1043A770, 0x1F43B675, 0x1C53BB6B, 0x1941A469,
          0x1254C367}  # fmt: skip
_SHORT_PARTS = {0xEC, 0xBF}
_CLUSTER = 0x1F43B675
# And a cluster: its time, blocks and groups of them, sizes and places, silent tracks.
_IN_CLUSTER = {b"\xe7", b"\xa3", b"\xa0", b"\xab", b"\xa7", b"\xaf", b"\xec", b"\xbf", b"\x58\x54"}


def promised_frames(container: av.container.InputContainer, stream: av.VideoStream) -> int | None:
    """Frames that the sample table of an mp4 or mov shows; None where there is none."""
    if "mp4" not in container.format.name or not stream.frames:
        return None
    # Not the header's own count: an edit list hides some, and the index ends where the file does.
    return sum(not entry.is_discard for entry in stream.index_entries) or None


def promised_s(stream: av.VideoStream) -> float | None:
    """Seconds, from the file's 0, at which a Matroska track ends; None where it does not say."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if found is None:
        return None
    hours, minutes, seconds = map(float, found.groups())
    return 3600 * hours + 60 * minutes + seconds


def missing_s(container: av.container.InputContainer, shown_s: float, hole: bool) -> float:
    """Seconds of an HLS playlist that were not shown; FFmpeg passes over pieces that do not come.

    shown_s: what its frames last; hole: whether there was one, for playlists round their lengths.
    """
    if container.format.name != "hls" or container.duration is None:
        return 0.0
    whole_s = container.duration / av.time_base
    missing = whole_s - shown_s
    return missing if missing > (_SLACK_S if hole else _ROUNDED * whole_s) else 0.0


def missing_bytes(path: Path) -> int:
    """Bytes that the file says it has and does not; 0 where it is whole, or of another kind."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_TS_PACKET + 1)
        if head[:4] == b"RIFF":
            length = int.from_bytes(head[4:8], "little")
            end = 0 if length == 0xFFFFFFFF else 8 + length  # left open by who could not go back
        elif head[:4] == b"\x1a\x45\xdf\xa3":
            end = _matroska_end(file)
        elif len(head) > _TS_PACKET and head[0] == head[_TS_PACKET] == 0x47:
            end = -(-size // _TS_PACKET) * _TS_PACKET
        else:
            end = _mp4_end(file, size)
    return max(0, end - size)


def breaks_off(path: Path) -> bool:
    """Whether the last of a file's JPEGs has no end: FFmpeg fills in the rest without a word."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, _JPEG_TAIL), 2)
        tail = file.read()
    return tail.rfind(b"\xff\xd9") <= tail.rfind(b"\xff\xd8")


def broken_at(path: Path) -> int | None:
    """The byte at which the parts of a Matroska file no longer follow each other, None if they do.

    FFmpeg passes over what it does not know up to the next part, without a word. Nothing is said of
    files whose parts leave their size open, as recorders write them into a pipe.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"\x1a\x45\xdf\xa3":
            return None
        end = _matroska_end(file)
        while file.tell() < min(end, size):
            at, name = file.tell(), file.read(4)
            short = name[0] in _SHORT_PARTS
            if not short and int.from_bytes(name, "big") not in _PARTS:
                return at
            file.seek(at + (1 if short else 4))
            length = _matroska_size(file)
            if length is None:
                return at if short else None
            part_end = file.tell() + length
            if part_end > end:
                return at
            inside = int.from_bytes(name, "big") == _CLUSTER
            if inside and (broken := _broken_in_cluster(file, min(part_end, size))) is not None:
                return broken
            file.seek(part_end)
    return None


def _broken_in_cluster(file: BinaryIO, end: int) -> int | None:
    """The byte at which what a cluster consists of no longer follows each other up to ``end``."""
    while (at := file.tell()) < end:
        name = file.read(1)
        if name == b"\x58":
            name += file.read(1)
        length = _matroska_size(file) if name in _IN_CLUSTER else None
        if length is None or file.seek(length, 1) > end:
            return at
    return None


def lacks_index(path: Path) -> bool:
    """Whether an mp4 or mov holds pictures without the index that recorders write at their end."""
    with path.open("rb") as file:
        names = {name for name, _ in _boxes(file, path.stat().st_size)}
    return b"mdat" in names and b"moov" not in names


def _mp4_end(file: BinaryIO, size: int) -> int:
    return max((end for _, end in _boxes(file, size)), default=0)


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """The name of each outer box of an mp4, and where it ends, as far as they say."""
    at = 0
    for _ in range(_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8 or head[4:8] not in _BOX_NAMES:
            return
        length = struct.unpack(">I", head[:4])[0]
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        at += length if length >= 8 else 0  # 0: up to the end of the file
        yield head[4:8], at
        if length < 8 or at >= size:
            return


def _matroska_end(file: BinaryIO) -> int:
    """The end of the first segment; 0 where its size is left open."""
    file.seek(4)
    header = _matroska_size(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    length = _matroska_size(file)
    return 0 if length is None else file.tell() + length


def _matroska_size(file: BinaryIO) -> int | None:
    """The variable-length size at this place; None where it is unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    value = int.from_bytes(bytes([first[0] & (1 << (8 - width)) - 1]) + rest, "big")
    return None if value == (1 << 7 * width) - 1 else value
