"""Video files as frames, decoded packet by packet; what is missing or damaged is counted."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import closing
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.video.reformatter import VideoReformatter

from runtime.errors import HedgeError
from runtime.images import is_jpegs
from runtime.sources.base import Frame, FrameNames, Source, frame_name
from runtime.sources.decode import bgr_image, limit_size, main_video, packets_of, pixel_aspect
from runtime.sources.frame_times import FrameTimes, frame_rate
from runtime.sources.hardware.decoder import CPU, Decode, Decoder, choose
from runtime.sources.losses.account import Account
from runtime.sources.losses.places import gap_in_flv, gap_in_transport
from runtime.sources.promise import (
    breaks_off,
    broken_at,
    lacks_index,
    missing_bytes,
    missing_s,
    promised_frames,
    promised_s,
)

_SLACK_S = 0.25  # by which a video may end before the length it promises
# Real containers only. Playlists (HLS, DASH, concat, SDP) would open other files by themselves.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,"
    "flv,ogg,asf,mxf,nut,gif,yuv4mpegpipe,dv,mjpeg,wav,mp3,aac,flac"
)


class VideoSource(Source):
    """A recording, decoded packet by packet, upright, at each frame's own size and time.

    It is a file, or lies behind http://, where it goes on after a broken connection. Times count
    from the first frame. Packets that come before the first key frame, as in the middle of a
    broadcast, are passed over: nobody can decode them.
    """

    def __init__(
        self,
        origin: str,
        container: av.container.InputContainer,
        files: list[Path],
        decoder: Decoder = CPU,
    ) -> None:
        stream = main_video(container)
        if stream is None:
            container.close()
            raise HedgeError(f"{origin}: has no video track; give a file with pictures in it")
        limit_size(stream, origin)
        rate = frame_rate(container, stream)
        super().__init__(origin, files, rate, promised_frames(container, stream))
        self._container, self._stream = container, stream
        self.decoder, self._decode = decoder.name, decoder.packets(stream)
        self._times = FrameTimes(container, stream, rate)
        self.time_base = self._times.unit
        self._account = Account(container, stream)
        self._bgr = VideoReformatter()  # shared: a new one for each frame costs 1 ms at 720p
        self._holed: set[int | None] = set()  # times of pictures of which a part is zeros
        self._cut = ""  # where it ends too early, once that is known

    @property
    def names(self) -> Container[str] | None:
        """See ``Source``: six digits, where the file says how many frames it has."""
        return FrameNames(self.expected) if self.expected else None

    def complaint(self) -> str | None:
        """See ``Source``; also where the video ends before the length it promises."""
        line = super().complaint()
        if not self._cut:
            return line
        return f"{self.origin}: {self._cut}" if line is None else f"{line}; {self._cut}"

    def close(self) -> None:
        """See ``Source``."""
        self._container.close()

    def _frames(self) -> Iterator[Frame]:
        # A lost packet takes its index along: the frames behind it keep the names of their labels.
        for index, decoded in enumerate(self._decoded()):
            if decoded is not None:
                yield self._shown(decoded, index, self._times.of(decoded, index))
        self._cut = self._cut or self._cut_at()

    def _shown(self, decoded: av.VideoFrame, index: int, time_s: float) -> Frame:
        if decoded.is_corrupt or decoded.pts in self._holed:
            self.record.add(f"{self.origin}: frame {index} is damaged")
        image = bgr_image(self._bgr, decoded, self.origin)
        name, aspect = frame_name(index), pixel_aspect(self._stream, decoded)
        return Frame(index, time_s, image, name, pixel_aspect=aspect, pts=decoded.pts)

    def _cut_at(self) -> str:
        whole_s, end_s = promised_s(self._stream), self._times.end_s
        if whole_s is not None and whole_s - end_s > _SLACK_S:
            return f"it ends after {end_s:.1f} of the {whole_s:.1f} seconds it promises"
        late_s = missing_s(self._container, self._times.shown_s, self._times.hole)
        if late_s:
            return f"{late_s:.1f} of the seconds it promises are missing"
        missing = sum(missing_bytes(path) for path in self.files)
        if missing:
            return f"it is cut: {missing} of the bytes it promises are missing"
        if self._container.format.name == "mjpeg" and any(map(breaks_off, self.files)):
            return "its last picture breaks off"
        broken = next(
            (at for path in self.files if (at := self._broken_at(path)) is not None), None
        )
        if broken is not None:
            return f"it is damaged at byte {broken}, where another part should begin"
        return self._account.found()

    def _broken_at(self, path: Path) -> int | None:
        if self._container.format.name == "mpegts":
            return gap_in_transport(path, self._stream.id)
        return gap_in_flv(path) if self._container.format.name == "flv" else broken_at(path)

    def _decoded(self) -> Iterator[av.VideoFrame | None]:
        """Every decoded frame; None for a packet that does not decode."""
        begun = False  # with what can be decoded
        for packet in self._packets():
            begun = begun or packet.is_keyframe or not packet.size
            self._times.read(packet)
            holed = self._account.read(packet)
            try:
                frames = self._decode(packet)
            except av.error.EOFError:  # the decoder has been flushed already
                continue
            except av.FFmpegError as error:
                if begun:
                    self._account.fail()
                    self.record.add(f"{self.origin}: a packet does not decode: {error.strerror}")
                    yield None
                self._times.lose(packet)
                continue
            if holed and packet.pts is not None:
                self._holed.add(packet.pts)
            elif holed and begun:
                self.record.add(f"{self.origin}: zeros in the place of a part of a picture")
            for frame in frames:
                begun = begun or not frame.is_corrupt
                if begun:
                    self._account.show(frame)
                    yield frame

    def _packets(self) -> Iterator[av.Packet]:
        """Packets, the flushing one last. One failure to read is survived, not two in a row."""
        failed = False
        packets = packets_of(self._container, self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                if not self.files:
                    self._cut = f"its connection broke off ({error.strerror})"
                    return
                self.record.add(f"{self.origin}: unreadable data: {error.strerror}")
                if failed:
                    return
                failed, packets = True, packets_of(self._container, self._stream)
                continue
            if packet is None:
                return
            failed = False
            yield packet


def open_video(path: Path, decode: Decode = "cpu") -> VideoSource:
    """Open a video file; HedgeError where it is none, and where ``decode`` does not fit it."""
    decoder = CPU
    if decode != "cpu":
        with closing(open_container(path)) as container:
            decoder = choose(decode, container, str(path))
    return VideoSource(str(path), open_container(path, decoder.accel), [path], decoder)


def open_container(path: Path, accel: HWAccel | None = None) -> av.container.InputContainer:
    """What holds the streams of a video file; HedgeError where it is none."""
    if not path.stat().st_size:
        raise HedgeError(f"{path}: the file is empty (0 bytes); copy or record it again")
    # As an absolute file: URL, a name such as "concat:x" or "-report" is only ever a name.
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    kind = "mjpeg" if is_jpegs(path) else None
    try:
        url = f"file:{path.absolute()}"
        return av.open(
            url, format=kind, container_options=options, metadata_errors="replace", hwaccel=accel
        )
    except av.error.ArgumentError as error:  # what FFmpeg says of formats that it may not read
        raise HedgeError(
            f"{path}: a playlist, or of a format that is not read; give the videos that a playlist "
            "names, convert others: ffmpeg -i IN -c copy OUT.mkv"
        ) from error
    except av.FFmpegError as error:
        if lacks_index(path):
            raise HedgeError(
                f"{path}: has no index (moov), which a recorder writes when it ends: let it end, "
                "or where it broke off, have the file repaired; .mkv and .ts are read at any time"
            ) from error
        raise HedgeError(
            f"{path}: not a readable video ({error.strerror}); check that it plays, or convert it"
        ) from error
