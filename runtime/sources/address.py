"""Addresses of cameras and network streams: which may be opened, and how they are shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from runtime.errors import HedgeError

# What a scheme may make FFmpeg open. Nothing local: a playlist could name files of this machine.
_HTTP = "http,https,tcp,tls,crypto"
_HTTP_FORMATS = "hls,mpegts,mpjpeg,mjpeg,image2pipe,mov,mp4,matroska,webm,flv,h264,hevc"
_RTSP_OPTIONS = {"protocol_whitelist": "rtsp,rtsps,rtp,tcp,tls,udp"}
# A recording goes on, by a range request, at the byte where its connection broke or stalled (µs);
# after four tries, in 4 s, it has ended.
_RESUMED = {"reconnect": "1", "reconnect_on_network_error": "1", "reconnect_delay_max": "4"}
_HTTP_OPTIONS = {
    "protocol_whitelist": _HTTP, "format_whitelist": _HTTP_FORMATS, "rw_timeout": "3000000",
    **_RESUMED,
}  # fmt: skip
SCHEMES: dict[str, dict[str, str]] = {
    "rtsp": _RTSP_OPTIONS,
    "rtsps": _RTSP_OPTIONS,
    "http": _HTTP_OPTIONS,
    "https": _HTTP_OPTIONS,
}
_DEVICE = re.compile(r"/dev/video\d+")


@dataclass(frozen=True)
class Address:
    """Something that sends frames by itself.

    shown: the text for people, files and pages: never holds a password, nor a query, which may
    hold a token; format: FFmpeg's name of the input format, None where it finds out; options: for
    its opening.
    """

    shown: str
    target: str = field(repr=False)
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def ways(self) -> list[dict[str, str]]:
        """Options to try in turn: some RTSP cameras speak UDP alone."""
        if self.target.partition("://")[0].lower() not in ("rtsp", "rtsps"):
            return [self.options]
        return [{**self.options, "rtsp_transport": name} for name in ("tcp", "udp")]

    @classmethod
    def parse(cls, text: str) -> Address | None:
        """The address that ``text`` is, None for what can only be a path.

        ``0`` and ``/dev/video0`` are cameras. Raises HedgeError for a scheme that is not allowed.
        """
        if text.isdigit():
            return cls(f"camera {text}", f"/dev/video{text}", "v4l2")
        if _DEVICE.fullmatch(text):
            return cls(text, text, "v4l2")
        if "://" not in text:
            return None
        scheme = text.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise HedgeError(
                f"{scheme}:// is not read; give {'://, '.join(SCHEMES)}://, or the path of a file"
            )
        try:
            shown = redacted(text)
        except ValueError as error:
            raise HedgeError(f"{scheme}://…: not an address ({error})") from error
        return cls(shown, text, None, SCHEMES[scheme])


def redacted(url: str) -> str:
    """``url`` without user, password, query and fragment; ValueError where it is none."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("it names no host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port is None else f":{parts.port}"
    hidden = "***@" if parts.username or parts.password else ""
    query = "?***" if parts.query else ""
    return f"{parts.scheme}://{hidden}{host}{port}{parts.path}{query}"
