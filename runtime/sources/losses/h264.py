"""Numbers of H.264 pictures: frame_num counts those that others need, the order count them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from runtime.sources.losses.bits import Bits
from runtime.sources.losses.pictures import Picture, Pictures, prefixed, unwrapped

# Profiles that name their chroma format.
_HIGH = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
_SLICE, _IDR, _MESSAGE, _SEQUENCE, _PICTURES = 1, 5, 6, 7, 8  # kinds of units
_SIGNED = 5  # the kind of message that an encoder writes its name in


class _Sequence(NamedTuple):
    """Of a sequence parameter set. order_bits: 0 where the order is not counted by itself."""

    planes: bool
    number_bits: int
    order_bits: int
    gaps: bool
    fields: bool


class H264(Pictures):
    """See ``Pictures``."""

    _length_at = 4

    def __init__(self, extradata: bytes) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._used_by: dict[int, int] = {}  # the sequence set of each picture set
        self._number: int | None = None  # of the last picture that others need
        self._order = 0
        self._skipping = self._fields = False  # whether pictures were ever not needed, or halved
        self._start: int | None = None  # the identifier of the last picture that numbers begin with
        self._signed = False  # by the encoder, as where a recording begins
        self._half: int | None = None  # the number of a frame whose second field may follow
        super().__init__(extradata)

    def _packed_sets(self, extradata: bytes) -> Iterator[bytes]:
        found, at = prefixed(extradata, 6, extradata[5] & 31)
        yield from found
        yield from prefixed(extradata, at + 1, extradata[at])[0]

    def _is_slice(self, first: int) -> bool:
        return 1 <= first & 31 <= 5

    def _unit(self, unit: bytes) -> Picture | None:
        kind, needed, bits = unit[0] & 31, bool(unit[0] & 96), Bits(unit[1:])
        if kind == _MESSAGE:
            self._signed |= unit[1] == _SIGNED
        elif kind == _SEQUENCE:
            number, self._sequences[number] = _sequence(bits)
            self.headed = True
        elif kind == _PICTURES:
            number = bits.ue()
            self._used_by[number] = bits.ue()
        elif kind in (_SLICE, _IDR) and bits.ue() == 0:
            return self._picture(bits, kind == _IDR, needed)
        return None

    def _picture(self, bits: Bits, idr: bool, needed: bool) -> Picture | None:
        bits.ue()  # the slice's type
        sequence = self._sequences[self._used_by[bits.ue()]]
        bits.u(2 * sequence.planes)
        number = bits.u(sequence.number_bits)
        field = sequence.fields and bits.u(1)
        if field:
            bits.u(1)
            self._fields = True
        if field and self._half == number and not idr:
            self._half = None
            return None
        self._half = number if field else None
        again = False
        if idr:
            before, self._start = self._start, bits.ue()
            again = before == self._start and not self._signed
            self._number = self._order = 0
        self._signed = False
        lost = False
        if self._number is not None and not idr and not sequence.gaps:
            lost = number != (self._number + 1) % (1 << sequence.number_bits)
        self._skipping |= not needed
        if needed:
            self._number = number
        order = None
        if sequence.order_bits:
            order = unwrapped(bits.u(sequence.order_bits), sequence.order_bits, self._order)
            self._order = order if needed else self._order
        return Picture(idr, order, lost, again=again)

    @property
    def countable(self) -> bool:
        """See ``Pictures``; live encoders, which need every picture, leave out some."""
        return self._skipping and not self._fields


def _sequence(bits: Bits) -> tuple[int, _Sequence]:
    profile = bits.u(8)
    bits.u(16)
    own, planes = bits.ue(), False
    if profile in _HIGH:
        chroma = bits.ue()
        planes = chroma == 3 and bool(bits.u(1))
        bits.skip_ue(2)
        bits.u(1)
        if bits.u(1):
            for at in range(12 if chroma == 3 else 8):
                if bits.u(1):
                    _skip_scaling(bits, 16 if at < 6 else 64)
    number_bits, kind, order_bits = bits.ue() + 4, bits.ue(), 0
    if kind == 0:
        order_bits = bits.ue() + 4
    elif kind == 1:
        bits.u(1)
        bits.skip_ue(2)
        bits.skip_ue(bits.ue())
    bits.ue()
    gaps = bool(bits.u(1))
    bits.skip_ue(2)
    return own, _Sequence(planes, number_bits, order_bits, gaps, not bits.u(1))


def _skip_scaling(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.ue()
            following = (last + (code + 1) // 2 * (1 if code & 1 else -1)) % 256
        last = following or last
