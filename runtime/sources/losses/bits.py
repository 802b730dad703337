"""The units (NAL) that streams of H.264 and H.265 consist of, and the bits of their headers."""

from __future__ import annotations

import re
from collections.abc import Iterator

_START = b"\0\0\1"
_HEAD = 512  # bytes of a unit: every header field that is read lies in them
# Zeros may only end a unit: whatever else would look like a start code is escaped by every encoder.
_HOLE = re.compile(rb"\0\0\0[^\0\1]")


class Bits:
    """Fields of a header, one after another; EOFError beyond its end."""

    def __init__(self, data: bytes) -> None:
        plain = data.replace(b"\0\0\3", b"\0\0")  # without what keeps start codes out
        self._value, self._left = int.from_bytes(plain, "big"), 8 * len(plain)

    def u(self, width: int) -> int:
        """An unsigned number of ``width`` bits."""
        self._left -= width
        if self._left < 0:
            raise EOFError
        return self._value >> self._left & (1 << width) - 1

    def ue(self) -> int:
        """An unsigned number in the Exp-Golomb code."""
        zeros = 0
        while not self.u(1):
            zeros += 1
        return (1 << zeros) - 1 + self.u(zeros)

    def skip_ue(self, count: int) -> None:
        """Pass over numbers in the Exp-Golomb code, signed ones as well."""
        for _ in range(count):
            self.ue()


def units(data: bytes, width: int) -> Iterator[bytes]:
    """The units of a packet: behind start codes, or behind lengths of ``width`` bytes."""
    at = 0 if width else data.find(_START)
    while 0 <= at < len(data) - width:
        if width:
            at += width
            end = at + int.from_bytes(data[at - width : at], "big")
            yield data[at:end]
        else:
            end = data.find(_START, at + 3)
            yield data[at + 3 : end if end >= 0 else len(data)]
        at = end


def head(unit: bytes) -> bytes:
    """The part of a unit that holds what is read of it."""
    return unit[:_HEAD]


def has_hole(unit: bytes) -> bool:
    """Whether zeros took the place of a unit's bits, as a disk has them that lost its power."""
    return b"\0\0\0" in unit and _HOLE.search(unit) is not None
