"""The units (NAL) that streams of H.264 and H.265 consist of, and the bits of their headers."""

from __future__ import annotations

from collections.abc import Iterator

_START = b"\0\0\1"
_HEAD = 512  # bytes of a unit: every header field that is read lies in them


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
    """The beginning of each unit of a packet: behind start codes, or lengths of ``width`` bytes."""
    if not width:
        at = data.find(_START)
        while at >= 0:
            yield data[at + 3 : at + 3 + _HEAD]
            at = data.find(_START, at + 3)
        return
    at = 0
    while at + width < len(data):
        size = int.from_bytes(data[at : at + width], "big")
        at += width
        yield data[at : at + min(size, _HEAD)]
        at += size
