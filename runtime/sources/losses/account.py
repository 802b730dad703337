"""What is missing between the first picture and the last, by the numbers and times of the rest."""

from __future__ import annotations

import heapq
from collections import Counter

import av
from av.format import Flags

from runtime.sources.losses.h264 import H264
from runtime.sources.losses.h265 import H265
from runtime.sources.losses.mpeg2 import Mpeg2
from runtime.sources.losses.pictures import Picture, Pictures

_CODECS: dict[str, type[Pictures]] = {"h264": H264, "hevc": H265, "mpeg2video": Mpeg2}
_TIMED = ("mpegts", "flv")  # formats whose times are judged, for they promise nothing
_REORDERED = 16  # pictures at most that are decoded before one that is shown ahead of them
_RARELY = 0.3  # share of the pictures or sequences behind which others are missing
_LAST = 3  # frames, ahead of which others would be shown that come behind them in the file
_STEADY_S = 0.002  # by which times at a steady rate differ: those of FLV are whole milliseconds


class Steps:
    """Steps from each number to the next, and behind how many frames each was first made."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._first: dict[int, int] = {}

    def add(self, step: int, frame: int) -> None:
        """Note a step forward."""
        if step > 0:
            self._counts[step] += 1
            self._first.setdefault(step, frame)

    def holes(self, rare: float) -> dict[int, int]:
        """Where steps lie that are longer than usual, by their length.

        None where they are more than ``rare`` of all: then they are how the recording was made.
        """
        found = {step: frame for step, frame in self._first.items() if self._long(step)}
        count = sum(self._counts[step] for step in found)
        return found if count <= rare * self._counts.total() else {}

    def usual(self) -> int:
        """The most frequent step."""
        return max(self._counts, key=self._counts.__getitem__, default=0)

    def even(self, slack: float) -> bool:
        """Whether steps that are no holes differ from the usual one by ``slack`` at most."""
        usual = self.usual()
        return all(abs(step - usual) <= slack or self._long(step) for step in self._counts)

    def _long(self, step: int) -> bool:
        return 2 * step >= 3 * self.usual()


class Account:
    """Reads the packets of a recording, counts what is shown of them, and says what is missing.

    Pictures carry numbers: one, of H.264, counts those that others need, one all that are shown.
    Between two sequences, and of other codecs, only times at a steady rate tell.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        codec = _CODECS.get(stream.codec_context.name)
        self._pictures = codec(stream.codec_context.extradata or b"") if codec else None
        self._raw = bool(container.format.flags & Flags.no_timestamps.value)
        self._begun = self._passed = self._clean = False
        self._coded = self._shown = self._failed = 0
        self._lost: list[int] = []  # behind how many pictures
        self._starts, self._again = 0, list[int]()
        self._waiting: list[tuple[int, int]] = []  # orders whose turn may not have come; frames
        self._entry: int | None = None  # the order of the first picture, within its sequence
        self._order: int | None = None
        self._orders = Steps()
        self._timed = container.format.name in _TIMED
        self._slack = _STEADY_S / float(stream.time_base or 1)
        self._time: int | None = None
        self._times = Steps()
        self._begins: set[int] = set()  # times of pictures that numbers begin anew with
        self._within: set[int] = set()  # steps in time between pictures that follow by number
        self._key, self._groups = 0, Steps()  # the last key frame, frames from each to the next

    def read(self, packet: av.Packet) -> bool:
        """Note a packet before it is decoded; whether it has a hole, see ``Pictures``."""
        if self._pictures is None or packet.is_discard:
            return False
        self._begun |= packet.is_keyframe
        for picture in self._pictures.of(bytes(packet)):
            if self._begun:
                self._note(picture)
                if picture.starts and packet.pts is not None:
                    self._begins.add(packet.pts)
            elif self._raw and not self._passed and self._pictures.headed:
                self._lost.append(0)  # a stream that begins with its header begins with a key frame
            self._passed = True
        return self._pictures.holed

    def fail(self) -> None:
        """Note that the last packet did not decode."""
        self._failed += 1

    def show(self, decoded: av.VideoFrame) -> None:
        """Note a frame that was decoded, in the order they are shown."""
        self._shown += 1
        before, self._time = self._time, decoded.pts
        # The first step is passed over: servers begin with a key frame of the past.
        if self._timed and before is not None and decoded.pts is not None and self._shown > 2:
            self._times.add(decoded.pts - before, self._shown - 1)
            if decoded.pts not in self._begins:
                self._within.add(decoded.pts - before)
        if decoded.key_frame:
            self._groups.add(self._shown - self._key, self._shown)
            self._key = self._shown

    def found(self) -> str:
        """What is missing, "" where nothing is known to be."""
        self._settle(0, ended=True)
        places = self._lost + self._again * (len(self._again) < _RARELY * self._starts)
        if self._pictures is not None and self._pictures.countable:
            places = places + list(self._orders.holes(_RARELY).values())
        places = places or self._pauses()
        if places:
            return f"pictures are missing, the first of them behind frame {max(0, min(places) - 1)}"
        dark = self._clean * (self._coded - self._shown - self._failed)
        return f"{dark} of its pictures could not be decoded" if dark > 0 else ""

    def _pauses(self) -> list[int]:
        """Where time passes without frames, at a rate that is steady otherwise."""
        holes = self._times.holes(rare=0.1)
        if not self._times.even(self._slack):
            return []
        if self._pictures is None or not self._pictures.vouches:
            return [frame for frame in holes.values() if frame < self._shown - _LAST]
        # Between pictures that follow by number a pause is the recorder's own, unless as many
        # frames are missing as lead from one key frame to the next: then numbers are the same.
        usual, group = self._times.usual(), self._groups.usual()
        within = holes.keys() & self._within
        own = any((round(step / usual) - 1) % group for step in within)
        return [] if own else list(holes.values())

    def _note(self, picture: Picture) -> None:
        if picture.starts:
            self._starts += 1
            self._again += [self._coded] * picture.again
        self._clean |= picture.starts and not self._coded
        if not self._coded:
            self._entry = picture.order or 0
        elif picture.starts:
            self._settle(0)
            self._order, self._entry = None, None
        order, entry = picture.order, self._entry
        if picture.hidden or (order is not None and entry is not None and order < entry):
            return  # it leads to the first picture, and needs what came before
        if picture.lost:
            self._lost.append(self._coded)
        self._coded += 1
        if order is not None:
            heapq.heappush(self._waiting, (order, self._coded))
            self._settle(_REORDERED)

    def _settle(self, left: int, ended: bool = False) -> None:
        """Count the steps between orders, but for the highest ``left`` of them.

        ended: whether no more comes; then what is shown ahead of the last pictures is no loss.
        """
        while len(self._waiting) > left:
            order, frame = heapq.heappop(self._waiting)
            due = not ended or any(later > frame for _, later in self._waiting)
            if self._order is not None and due:
                self._orders.add(order - self._order, frame - 1)
            self._order = order
