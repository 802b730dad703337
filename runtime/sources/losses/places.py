"""Where a file of packets is broken: those of an MPEG-TS are counted, an FLV's are chained."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

_PACKET = 188  # bytes of an MPEG-TS packet
_AT_ONCE = 20_000  # packets
_SYNC = 0x47
_CLOCK = 1 << 33  # at which the times of an MPEG-TS begin anew
_TAGS = {8, 9, 15, 18}  # kinds of FLV tags: sound, pictures, data
_TAG_HEAD = 11  # bytes


def gap_in_transport(path: Path, track: int) -> int | None:
    """The byte at which packets of an MPEG-TS are missing or damaged; None where none are.

    track: the packet identifier (PID) of the pictures. Where times step back another recording was
    joined on, whose packets are counted anew. Nothing is said of packets with other lengths.
    """
    with path.open("rb") as file:
        at = _first_packet(file.read(_AT_ONCE * _PACKET))
        if at is None or at >= _PACKET:
            return None if at is None else 0
        last, time = None, None
        while len(rows := _packets(file, at)):
            broken = np.flatnonzero(rows[:, 0] != _SYNC)
            whole = rows[: broken[0]] if len(broken) else rows
            own = np.flatnonzero((whole[:, 1] & 31) * np.uint16(256) + whole[:, 2] == track)
            for number in own[_miscounted(rows[own], last)]:
                place = at + _PACKET * int(number)
                before, after = _latest(rows[own[own < number]], time), _next(file, place, track)
                if before is None or after is None or (after - before) % _CLOCK < _CLOCK // 2:
                    return place
            if len(broken):
                return at + _PACKET * int(broken[0])
            time = _latest(rows[own], time)
            last = rows[own[-1]] if len(own) else last
            at += _PACKET * len(rows)
    return None


def _first_packet(data: bytes) -> int | None:
    """Where three packets in a row begin, None where they never do."""
    sync = np.frombuffer(data, np.uint8) == _SYNC
    found = np.flatnonzero(sync[: -2 * _PACKET] & sync[_PACKET:-_PACKET] & sync[2 * _PACKET :])
    return int(found[0]) if len(found) else None


def _packets(file: BinaryIO, at: int) -> np.ndarray:
    """(n, 188) uint8: the whole packets from the byte ``at`` on, at most 20,000."""
    file.seek(at)
    data = file.read(_PACKET * _AT_ONCE)
    return np.frombuffer(data, np.uint8, len(data) // _PACKET * _PACKET).reshape(-1, _PACKET)


def _miscounted(rows: np.ndarray, last: np.ndarray | None) -> np.ndarray:
    """Which of a track's packets do not follow the one before; last: the one before the first."""
    if last is not None:
        rows = np.vstack([last, rows])
    count, filled = rows[:, 3] & 15, (rows[:, 3] & 16) > 0
    anew = (rows[:, 3] & 32 > 0) & (rows[:, 4] > 0) & (rows[:, 5] & 128 > 0)
    follows = count[1:] == (count[:-1] + filled[1:]) % 16
    twice = (rows[1:] == rows[:-1]).all(axis=1)  # as the standard allows
    wrong = ~(follows | twice | anew[1:]) | (rows[1:, 1] & 128 > 0)
    found = np.flatnonzero(wrong)
    return found if last is not None else found + 1


def _latest(rows: np.ndarray, before: int | None) -> int | None:
    """The last time that these packets say; ``before`` where they say none."""
    return next((time for row in rows[::-1] if (time := _time(row)) is not None), before)


def _next(file: BinaryIO, at: int, track: int) -> int | None:
    """The first time that the track's packets say from the byte ``at`` on."""
    file.seek(at)
    while len(packet := file.read(_PACKET)) == _PACKET:
        if (packet[1] & 31) << 8 | packet[2] == track:
            time = _time(np.frombuffer(packet, np.uint8))
            if time is not None:
                return time
    return None


def _time(row: np.ndarray) -> int | None:
    """When the picture that begins in a packet is decoded, in 1/90000 s; None without one."""
    packet = row.tobytes()
    if not packet[1] & 64:
        return None
    at = 4 + (1 + packet[4] if packet[3] & 32 else 0)
    if packet[at : at + 3] != b"\0\0\1" or len(packet) < at + 19 or not packet[at + 7] & 128:
        return None
    field = packet[at + 14 : at + 19] if packet[at + 7] & 64 else packet[at + 9 : at + 14]
    high, middle, low = field[0] >> 1 & 7, field[1:3], field[3:5]
    return high << 30 | int.from_bytes(middle, "big") >> 1 << 15 | int.from_bytes(low, "big") >> 1


def gap_in_flv(path: Path) -> int | None:
    """The byte at which the tags of an FLV no longer follow each other; None where they do."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(9)
        if head[:3] != b"FLV":
            return None
        at, length = int.from_bytes(head[5:9], "big"), -_TAG_HEAD
        while at < size:
            file.seek(at)
            tag = file.read(4 + _TAG_HEAD)
            # Writers differ in what they count as a tag's length.
            if int.from_bytes(tag[:4], "big") not in (0, length, length + 10, length + _TAG_HEAD):
                return at
            if len(tag) <= 4:
                return None
            if tag[4] & 31 not in _TAGS:
                return at
            length = int.from_bytes(tag[5:8], "big")
            at += len(tag) + length
    return at - length if at > size else None
