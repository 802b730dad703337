"""Numbers of MPEG-2 pictures: the temporal reference counts those that are shown of a group."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.sources.losses.pictures import Picture, Pictures, unwrapped

_PICTURE, _GROUP, _BITS = 0x00, 0xB8, 10  # kinds of units; of a temporal reference


class Mpeg2(Pictures):
    """See ``Pictures``."""

    vouches = False  # what leads to a group is shown ahead of its first picture
    _length_at = 0

    def __init__(self, extradata: bytes) -> None:
        self._starts = True
        self._order = 0
        self._headless = False
        super().__init__(extradata)

    def _packed_sets(self, extradata: bytes) -> Iterator[bytes]:
        return iter(())

    def of(self, packet: bytes) -> list[Picture]:
        """The picture in a packet, which holds one whole: without its head it is lost."""
        self._headless = bool(packet)
        found = super().of(packet)
        return [Picture(False, None, lost=True)] if self._headless else found

    def _is_slice(self, first: int) -> bool:
        return 0 < first < 0xB0

    def _unit(self, unit: bytes) -> Picture | None:
        if unit[0] == _GROUP:
            self._starts = True
        if unit[0] != _PICTURE:
            return None
        self._headless = False
        number, starts = unit[1] << 2 | unit[2] >> 6, self._starts
        order = number if starts else unwrapped(number, _BITS, self._order)
        if order == self._order and not starts:
            return None  # the second field
        self._order, self._starts = order, False
        return Picture(starts, order)
