"""Numbers of H.265 pictures: the order count of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from runtime.sources.losses.bits import Bits
from runtime.sources.losses.pictures import Picture, Pictures, prefixed, unwrapped

# Kinds of units.
_PASSED_OVER = (8, 9)  # pictures that need what was before a point of entry
_LEADING = range(6, 10)
_BROKEN_LINKS, _IDR, _ENTRIES = range(16, 19), (19, 20), range(16, 24)
_SEQUENCE, _PICTURES, _END = 33, 34, (36, 37)


class _Sequence(NamedTuple):
    planes: bool
    order_bits: int


class _PictureSet(NamedTuple):
    sequence: int
    says_output: bool
    extra_bits: int


class H265(Pictures):
    """See ``Pictures``."""

    _length_at = 21

    def __init__(self, extradata: bytes) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, _PictureSet] = {}
        self._order: int | None = None  # of the last picture that others count from
        self._entered = False  # at a point before which nothing was decoded
        super().__init__(extradata)

    def _packed_sets(self, extradata: bytes) -> Iterator[bytes]:
        at = 23
        for _ in range(extradata[22]):
            count = int.from_bytes(extradata[at + 1 : at + 3], "big")
            found, at = prefixed(extradata, at + 3, count)
            yield from found

    def _is_slice(self, first: int) -> bool:
        return first >> 1 & 63 < 32

    def _unit(self, unit: bytes) -> Picture | None:
        kind, layer, level = unit[0] >> 1 & 63, (unit[0] & 1) << 5 | unit[1] >> 3, unit[1] & 7
        bits = Bits(unit[2:])
        if layer:
            return None
        if kind == _SEQUENCE:
            number, self._sequences[number] = _sequence(bits)
        elif kind == _PICTURES:
            number, sequence = bits.ue(), bits.ue()
            bits.u(1)
            self._pictures[number] = _PictureSet(sequence, bool(bits.u(1)), bits.u(3))
        elif kind in _END:
            self._order = None
        elif (kind < 10 or kind in _ENTRIES) and bits.u(1):
            return self._picture(bits, kind, level)
        return None

    def _picture(self, bits: Bits, kind: int, level: int) -> Picture:
        if kind in _ENTRIES:
            bits.u(1)
        pictures = self._pictures[bits.ue()]
        sequence = self._sequences[pictures.sequence]
        bits.u(pictures.extra_bits)
        bits.ue()  # the slice's type
        shown = not pictures.says_output or bool(bits.u(1))
        bits.u(2 * sequence.planes)
        starts = kind in _IDR or kind in _BROKEN_LINKS or self._order is None
        if kind in _IDR:
            order = 0
        else:
            before = 0 if starts or self._order is None else self._order
            order = unwrapped(bits.u(sequence.order_bits), sequence.order_bits, before)
        if kind in _ENTRIES:
            self._entered = starts
        hidden = not shown or (self._entered and kind in _PASSED_OVER)
        if level == 1 and kind not in _LEADING and (kind > 15 or kind % 2):
            self._order = order
        return Picture(starts, order, hidden=hidden)


def _sequence(bits: Bits) -> tuple[int, _Sequence]:
    bits.u(4)
    layers = bits.u(3)
    bits.u(1 + 88)
    bits.u(8)
    present = [(bits.u(1), bits.u(1)) for _ in range(layers)]
    bits.u(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.u(88 * profile + 8 * level)
    own, chroma = bits.ue(), bits.ue()
    planes = chroma == 3 and bool(bits.u(1))
    bits.skip_ue(2)
    if bits.u(1):
        bits.skip_ue(4)
    bits.skip_ue(2)
    return own, _Sequence(planes, bits.ue() + 4)
