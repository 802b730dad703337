"""What a coded picture says of its place, whichever codec it is of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from runtime.sources.losses.bits import has_hole, head, units


@dataclass(frozen=True)
class Picture:
    """starts: whether numbers begin anew with it; order: its place among the shown pictures of its
    sequence, in any steps, None where it does not say; lost: whether pictures that others need are
    missing before it; hidden: whether it is never shown; again: whether the numbers begin with the
    identifier that those before began with, which most encoders never do.
    """

    starts: bool
    order: int | None
    lost: bool = False
    hidden: bool = False
    again: bool = False


class Pictures(ABC):
    """Reads the headers of one stream's packets, in the order of decoding.

    extradata: the codec's own, which holds parameter sets and, where it begins with 1, how wide the
    lengths are that stand before units. headed: whether the last packet held parameter sets; holed:
    whether zeros took the place of a part of its pictures, which decoders may turn into others;
    vouches: whether pictures that follow by number, in the order they are shown, are all there.
    """

    vouches = True
    _length_at: int  # the place of that width

    def __init__(self, extradata: bytes) -> None:
        self.headed = self.holed = False
        packed = len(extradata) > self._length_at and extradata[0] == 1
        self._width = (extradata[self._length_at] & 3) + 1 if packed else 0
        with suppress(IndexError):  # where it is cut
            for unit in self._packed_sets(extradata) if packed else units(extradata, 0):
                self._read(head(unit))

    @property
    def countable(self) -> bool:
        """Whether the orders of the pictures leave out none."""
        return True

    def of(self, packet: bytes) -> list[Picture]:
        """The pictures that begin in a packet."""
        self.headed = self.holed = False
        found = []
        for unit in units(packet, self._width):
            self.holed |= bool(unit) and self._is_slice(unit[0]) and has_hole(unit)
            found.append(self._read(head(unit)))
        return [picture for picture in found if picture is not None]

    def _read(self, unit: bytes) -> Picture | None:
        try:
            return self._unit(unit)
        except (EOFError, IndexError, KeyError):
            return None  # cut, or of parameter sets that never came: the decoder says what it is

    @abstractmethod
    def _is_slice(self, first: int) -> bool:
        """Whether the unit that begins with this byte is a part of a picture."""

    @abstractmethod
    def _unit(self, unit: bytes) -> Picture | None:
        """Note parameter sets; the picture whose first slice this is."""

    @abstractmethod
    def _packed_sets(self, extradata: bytes) -> Iterator[bytes]:
        """The parameter sets in extradata that begins with 1."""


def prefixed(data: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """``count`` units behind lengths of two bytes, and where they end."""
    found = []
    for _ in range(count):
        size = int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return found, at


def unwrapped(low: int, bits: int, before: int) -> int:
    """The number nearest to ``before`` whose last ``bits`` are ``low``."""
    half = 1 << bits - 1
    return before + (low - before + half) % (2 * half) - half
