"""What there is to do: spans of videos, each from one key frame to another, without decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

from runtime import files
from runtime.errors import HedgeError
from runtime.fleet.places import fingerprint, labelled, open_place
from runtime.sources.decode import limit_size, main_video, packets_of

_SEEKABLE = ("mp4", "matroska")  # formats with an index of their key frames
_READERS = 8  # videos that are looked at side by side: reading waits for disks and networks


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a video, from a key frame up to, not with, another.

    id: of the video, the bundle, the options and the times: what it stands for is worked out once;
    start_pts, end_pts: in units of the stream, None for the video's own beginning and end; first:
    number of its first frame in the video; frames: how many it holds, None where nobody counted;
    zero: pts of the video's first frame; start_s, seconds: where in the video, and how much of it.
    """

    id: str
    video: str
    start_pts: int | None
    end_pts: int | None
    first: int = 0
    frames: int | None = None
    zero: int = 0
    start_s: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Unplanned:
    """A video that cannot be opened, and why."""

    video: str
    why: str


@dataclass(frozen=True)
class Packets:
    """A video's packets that are shown, in the order they are decoded in.

    times: (N,) int64 in multiples of ``unit`` seconds; keys: (N,) bool; exact: times are those of
    showing, not those of decoding; zero: when the first frame is shown.
    """

    times: np.ndarray
    keys: np.ndarray
    unit: Fraction
    exact: bool
    zero: int


@dataclass(frozen=True)
class Cut:
    """A key frame where a span begins: when it is shown, and how many frames are before."""

    pts: int
    first: int


def plan(
    videos: Sequence[str], every_s: float, key: str, labels: Path | None = None
) -> Iterator[tuple[str, list[Span] | Unplanned]]:
    """The spans of each video, in order; key, labels: what else a result depends on."""
    with ThreadPoolExecutor(_READERS, "plan") as pool:
        look = partial(_plan_one, every_s=every_s, key=key, labels=labels)
        yield from zip(videos, pool.map(look, videos), strict=True)


def _plan_one(video: str, every_s: float, key: str, labels: Path | None) -> list[Span] | Unplanned:
    if not _is_text(video):  # tables and JSON hold no other names
        why = "its name holds bytes that are no text (UTF-8); give the file another name"
        return Unplanned(files.printable(video), why)
    try:
        key = f"{key} {fingerprint(video)}"
        if labels is not None:
            key = f"{key} {labelled(labels, video)}"
        with open_place(video) as container:
            stream = main_video(container)
            if stream is None:
                raise HedgeError(f"{video}: has no video track; give a file with pictures in it")
            limit_size(stream, video)
            found = read_packets(container, stream)
            if found is None:
                length = (stream.duration or 0) * (stream.time_base or 0)
                return [Span(_id(key, video, None, None), video, None, None, seconds=float(length))]
        at = cuts(found, every_s)
        places = [_exact(found, index) for index in at]
        if at:
            with open_place(video) as again:  # as a worker will: fresh, knowing nothing yet
                places = _probe(again, found, at)
        return spans(video, found, places, key)
    except (HedgeError, OSError, av.FFmpegError) as error:
        return Unplanned(video, str(error))


def read_packets(container: av.container.InputContainer, stream: av.VideoStream) -> Packets | None:
    """The packets of a video, by its index where that is whole, else by reading all of them.

    None where there is no way to go to a key frame.
    """
    if not any(name in container.format.name for name in _SEEKABLE) or not stream.time_base:
        return None
    entries = stream.index_entries
    if stream.frames and len(entries) == stream.frames and stream.start_time is not None:
        rows = [(e.timestamp, e.is_keyframe) for e in entries if not e.is_discard]
        exact, zero = False, stream.start_time
    else:
        rows = [
            (packet.pts, packet.is_keyframe)
            for packet in packets_of(container, stream)
            if packet.size and packet.pts is not None and not packet.is_discard
        ]
        exact, zero = True, min((time for time, _ in rows), default=0)
    if not rows:
        return None
    times, keys = (np.array(column) for column in zip(*rows, strict=True))
    return Packets(times.astype(np.int64), keys.astype(bool), stream.time_base, exact, zero)


def cuts(packets: Packets, every_s: float) -> list[int]:
    """Numbers of the packets where a span begins: the first key frame after each ``every_s``."""
    keys = np.flatnonzero(packets.keys)
    times = packets.times[keys]
    step = round(every_s / packets.unit)
    found, at = [], int(np.searchsorted(times, packets.times[0] + step))
    while at < len(keys):
        found.append(int(keys[at]))
        at = int(np.searchsorted(times, times[at] + step))
    return found


def spans(video: str, packets: Packets, places: Sequence[Cut], key: str) -> list[Span]:
    """The spans between ``places``, the first from the beginning, the last up to the end."""
    ends = [*places, None]
    whole_s = float((packets.times.max() - packets.times[0]) * packets.unit)
    result = []
    for start, end in zip([None, *places], ends, strict=True):
        first = 0 if start is None else start.first
        start_pts, end_pts = (None if cut is None else cut.pts for cut in (start, end))
        from_s = 0.0 if start is None else float((start.pts - packets.zero) * packets.unit)
        to_s = whole_s if end is None else float((end.pts - packets.zero) * packets.unit)
        frames = (len(packets.times) if end is None else end.first) - first
        name = _id(key, video, start_pts, end_pts)
        timed = (packets.zero, from_s, max(0.0, to_s - from_s))
        result.append(Span(name, video, start_pts, end_pts, first, frames, *timed))
    return result


def _exact(packets: Packets, index: int) -> Cut:
    pts = int(packets.times[index])
    return Cut(pts, int(np.count_nonzero(packets.times < pts)))


def _probe(
    container: av.container.InputContainer, packets: Packets, at: Sequence[int]
) -> list[Cut]:
    """The places of the packets ``at``; those that cannot be gone to are left out.

    An index tells when a packet is decoded. When its frame is shown, and which frames behind it
    are shown before it, the packets themselves tell.
    """
    stream = main_video(container)
    assert stream is not None, "it had one before"
    found = []
    for index in at:
        time = int(packets.times[index])
        cut = None
        container.seek(time, stream=stream)
        key_pts = None
        leading = 0
        for packet in packets_of(container, stream):
            own = packet.pts if packets.exact else packet.dts
            if not packet.size or packet.pts is None or own is None:
                break
            if key_pts is None and own >= time:
                if own > time or not packet.is_keyframe:
                    break
                key_pts = packet.pts
            elif key_pts is not None and packet.pts > key_pts:
                cut = Cut(key_pts, index + leading)
                break
            elif key_pts is not None:
                leading += not packet.is_discard
        if cut is not None:
            found.append(_exact(packets, index) if packets.exact else cut)
    return found


def _is_text(name: str) -> bool:
    return name == name.encode(errors="replace").decode()


def _id(key: str, video: str, start: int | None, end: int | None) -> str:
    return files.sha256_of(f"{key} {video} {start} {end}".encode())[:32]
