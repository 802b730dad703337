"""What decodes a stream: the CPU, or hardware that gave the same pixels on its first frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, get_args

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.reformatter import VideoReformatter

from runtime.cli import warn
from runtime.errors import HedgeError
from runtime.images import MAX_PIXELS
from runtime.sources.decode import is_upright, limit_size, main_video, packets_of, stored_image

Hardware = Literal["cuda", "videotoolbox", "vaapi", "qsv"]
Decode = Literal["cpu", "auto", "cuda", "vaapi", "qsv", "videotoolbox"]
HARDWARE: tuple[Hardware, ...] = get_args(Hardware)  # in the order in which auto tries them
LEVELS = 2  # of 255, by which a pixel may differ from the CPU's
_PACKETS = 1000  # of a stream, in which a frame must come
# Intel's decoders are codecs of their own, which hand over frames in the machine's memory.
_OWN_CODEC = {"qsv": "{}_qsv"}

Packets = Callable[[av.Packet], list[av.VideoFrame]]


class UnfitError(Exception):
    """Why a decoder does not decode a stream as the CPU does, in a few words."""


@dataclass(frozen=True)
class Decoder:
    """What decodes a stream.

    name: "cpu", or the hardware's; inside: whether FFmpeg's decoder of the stream has the hardware
    do its work, so that the container is opened with ``accel``; else it is another decoder; levels:
    the most, of 255, by which a pixel differed from the CPU's.
    """

    name: str = "cpu"
    inside: bool = True
    levels: int = 0

    @property
    def accel(self) -> HWAccel | None:
        """What to open the container with."""
        return _accel(self.name) if self.inside and self.name != "cpu" else None

    def packets(self, stream: av.VideoStream) -> Packets:
        """What decodes a packet of ``stream``, whose container was opened with ``accel``."""
        if self.inside:
            return av.Packet.decode
        return _context(self.name, stream, self.inside).decode


CPU = Decoder()


def choose(decode: Decode, container: av.container.InputContainer, origin: str) -> Decoder:
    """The decoder to use for what ``container`` holds, tried on its first frame.

    It reads from the container, which is then to be opened again. "auto" says in one line why the
    CPU decodes where it does; hardware that was named and does not fit is a HedgeError.
    """
    stream = main_video(container)
    if decode == "cpu" or stream is None:
        return CPU
    limit_size(stream, origin)
    packets, frames = sample(container, stream)
    if not frames and decode == "auto":
        return CPU  # the run itself tells what is wrong
    names = [name for name in HARDWARE if name in hwdevices_available()]
    reasons = [] if names or decode != "auto" else ["no hardware in this build of FFmpeg"]
    for name in names if decode == "auto" else [decode]:
        try:
            return fitting(name, stream, packets, frames)
        except UnfitError as error:
            reasons.append(f"{name}: {error}")
    why = "; ".join(reasons)
    if decode != "auto":
        raise HedgeError(f"{origin}: not decoded by {why}; take --decode auto or cpu")
    warn(f"{origin}: decoded on the CPU ({why})")
    return CPU


def sample(
    container: av.container.InputContainer, stream: av.VideoStream, count: int = 1
) -> tuple[list[av.Packet], list[av.VideoFrame]]:
    """Packets of ``count`` whole frames or more, from a key frame on, and all frames in them."""
    packets: list[av.Packet] = []
    frames: list[av.VideoFrame] = []
    with suppress(av.FFmpegError):  # what came before may do
        for packet in packets_of(container, stream):
            if not packet.size or len(packets) == _PACKETS:
                break
            if packets or packet.is_keyframe:
                packets.append(packet)
                frames += packet.decode()
            if sum(not frame.is_corrupt for frame in frames) >= count:
                break
        frames += stream.codec_context.decode(None)
    return packets, frames


def fitting(
    name: str, stream: av.VideoStream, packets: Sequence[av.Packet], frames: Sequence[av.VideoFrame]
) -> Decoder:
    """The decoder by hardware that is called ``name``, where it fits ``stream``.

    packets: of the stream's beginning; frames: what the CPU made of them. Raises UnfitError where
    it does not open, or where a pixel of a frame differs by more than LEVELS.
    """
    if name not in hwdevices_available():
        raise UnfitError("not in this build of FFmpeg")
    inside = name not in _OWN_CODEC and any(
        config.device_type.name == name for config in stream.codec_context.codec.hardware_configs
    )
    if not inside and not all(map(is_upright, frames)):
        raise UnfitError("does not turn pictures upright")
    try:
        context = _context(name, stream, inside)
        decoded = [frame for packet in (*packets, None) for frame in context.decode(packet)]
    except (av.FFmpegError, ValueError, RuntimeError) as error:
        raise UnfitError(_cause(error)) from None
    return Decoder(name, inside, check_same(frames, decoded))


def check_same(expected: Sequence[av.VideoFrame], got: Sequence[av.VideoFrame]) -> int:
    """The most levels (of 255) by which a pixel of ``got`` differs from the frame of its time.

    Damaged frames are passed over. Raises UnfitError beyond LEVELS, and where a frame is missing.
    """
    found, most = {frame.pts: frame for frame in got}, 0
    whole = [frame for frame in expected if not frame.is_corrupt]
    if not whole:
        raise UnfitError("no frame to try it on")
    for frame in whole:
        own = found.get(frame.pts)
        if own is None or (own.width, own.height) != (frame.width, frame.height):
            raise UnfitError("does not give the CPU's frames")
        most = max(most, int(np.abs(_levels(frame) - _levels(own)).max()))
    if most > LEVELS:
        raise UnfitError(f"pixels differ by {most} of 255 levels from the CPU's, {LEVELS} allowed")
    return most


def _levels(frame: av.VideoFrame) -> np.ndarray:
    return stored_image(VideoReformatter(), frame, "the frame").astype(np.int16)


def _context(name: str, stream: av.VideoStream, inside: bool) -> av.CodecContext:
    """A decoder of its own for packets of ``stream``."""
    own = stream.codec_context
    codec = own.codec.name if inside else _codec(name, own.codec.canonical_name)
    accel = None if name in _OWN_CODEC else _accel(name)
    context = av.CodecContext.create(codec, "r", hwaccel=accel)
    if accel is not None and not context.is_hwaccel:
        raise UnfitError(f"does not decode {own.codec.canonical_name}")
    context.extradata = own.extradata
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return context


def _codec(name: str, codec: str) -> str:
    found = _OWN_CODEC.get(name, "{}").format(codec.removesuffix("video"))
    if found not in av.codecs_available:
        raise UnfitError(f"does not decode {codec}")
    return found


def _accel(name: str) -> HWAccel:
    return HWAccel(name, allow_software_fallback=False)


def _cause(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"does not open here ({text.splitlines()[0]})"
