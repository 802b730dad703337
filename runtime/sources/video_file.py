"""Video files as frames, decoded packet by packet; what is missing or damaged is counted."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from runtime.errors import HedgeError
from runtime.sources.base import DEFAULT_FPS, Frame, FrameNames, Source, frame_name
from runtime.sources.decode import bgr_image, limit_size, packets_of

_SLACK_S = 0.25  # by which a video may end before the length it promises
# Real containers only. Playlists (HLS, DASH, concat, SDP) would open other files by themselves.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,"
    "flv,ogg,asf,mxf,nut,gif,yuv4mpegpipe,dv,wav,mp3,aac,flac"
)


class VideoSource(Source):
    """A video file, decoded packet by packet, upright, at each frame's own size."""

    def __init__(self, path: Path) -> None:
        self._container = _open_container(path)
        self._stream = _video_stream(self._container, path)
        limit_size(self._stream, str(path))
        self._bgr = VideoReformatter()  # shared: a new one for each frame costs 1 ms at 720p
        self._hidden = 0
        self._cut = ""  # where it ends too early, once that is known
        rate = self._stream.average_rate or self._stream.guessed_rate or DEFAULT_FPS
        super().__init__(str(path), [path], Fraction(rate), self._stream.frames or None)

    @property
    def names(self) -> Container[str] | None:
        return FrameNames(self.expected) if self.expected else None

    def complaint(self) -> str | None:
        line = super().complaint()
        if line is None:
            return f"{self.origin}: {self._cut}" if self._cut else None
        hidden = f" (its edit list hides {self._hidden})" if self._hidden else ""
        return line + hidden if self.shortfall else line

    def close(self) -> None:
        self._container.close()

    def _frames(self) -> Iterator[Frame]:
        # A lost packet takes its index along: the frames behind it keep the names of their labels.
        end_s = 0.0
        for index, decoded in enumerate(self._decoded()):
            if decoded is None:
                continue
            if decoded.is_corrupt:
                self._fault(f"{self.origin}: frame {index} is damaged")
            time_s = float(index / self.fps) if decoded.time is None else decoded.time
            end_s = max(end_s, time_s + float(decoded.duration * (decoded.time_base or 0)))
            image = bgr_image(self._bgr, decoded, self.origin)
            yield Frame(index, time_s, image, frame_name(index))
        whole_s = _promised_s(self._stream)
        if whole_s is not None and whole_s - end_s > _SLACK_S:
            self._cut = f"it ends after {end_s:.1f} of the {whole_s:.1f} seconds it promises"

    def _decoded(self) -> Iterator[av.VideoFrame | None]:
        """Every decoded frame; None for a packet that does not decode."""
        for packet in self._packets():
            self._hidden += packet.is_discard
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                self._fault(f"{self.origin}: a packet does not decode: {error.strerror}")
                yield None
                continue
            yield from frames
        with suppress(av.FFmpegError):  # EOFError where the container has flushed the decoder
            yield from self._stream.decode(None)

    def _packets(self) -> Iterator[av.Packet]:
        """Packets with data. One failure to read is survived, a second without progress is not."""
        failed = False
        packets = packets_of(self._container, self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self._fault(f"{self.origin}: unreadable data: {error.strerror}")
                if failed:
                    return
                failed, packets = True, packets_of(self._container, self._stream)
                continue
            if packet is None:
                return
            failed = False
            if packet.size:
                yield packet


def _promised_s(stream: av.VideoStream) -> float | None:
    """Seconds that the video lasts, of a Matroska file, which counts no frames."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if found is None:
        return None
    hours, minutes, seconds = map(float, found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _open_container(path: Path) -> av.container.InputContainer:
    if not path.stat().st_size:
        raise HedgeError(f"{path}: the file is empty (0 bytes); copy or record it again")
    # As an absolute file: URL, a name such as "concat:x" or "-report" is only ever a name.
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        url = f"file:{path.absolute()}"
        return av.open(url, container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise HedgeError(
            f"{path}: not a readable video ({error.strerror}); check that it plays, or convert it"
        ) from error


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # the cover of a music file
            return stream
    container.close()
    raise HedgeError(f"{path}: has no video track; give a file with pictures in it")
