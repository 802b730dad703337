"""Addresses of cameras and network streams: which may be opened, and how they are shown."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import av
from av.codec.hwaccel import HWAccel

from runtime.errors import HedgeError
from runtime.web.client import Access, Web
from runtime.web.hidden import login_of, names_host, redacted

PASSWORD_VARIABLE = "HEDGE_SOURCE_PASSWORD"
# What a scheme may make FFmpeg open. Nothing local: a playlist could name files of this machine.
_RTSP_OPTIONS = {"protocol_whitelist": "rtsp,rtsps,rtp,tcp,tls,udp"}
# A recording goes on, by a range request, at the byte where its connection broke or stalled (µs);
# after tries at 0, 1, 4, 11 and 26 s it has ended.
RESUMED = {"reconnect": "1", "reconnect_delay_max": "15"}
_HTTP_OPTIONS = {
    "protocol_whitelist": "http,https,tcp,tls",
    "format_whitelist": "mpegts,mpjpeg,mjpeg,image2pipe,mov,mp4,matroska,webm,flv,h264,hevc",
    "max_redirects": "0",  # FFmpeg would follow them anywhere
    "rw_timeout": "3000000",
    **RESUMED,
}
_PLAYLIST_OPTIONS = {
    "format_whitelist": "hls,mpegts,mov,mp4,aac,webvtt",
    "http_persistent": "0",
    "http_multiple": "0",
}
SCHEMES: dict[str, dict[str, str]] = {
    "rtsp": _RTSP_OPTIONS,
    "rtsps": _RTSP_OPTIONS,
    "http": _HTTP_OPTIONS,
    "https": _HTTP_OPTIONS,
}
# What FFmpeg calls the cameras of a system, where it finds one by its number, and options to try in
# turn. Those of Macs have 30 frames a second, or 15, and refuse its own 29.97; on Windows its
# buffer holds no frame of 1920×1080.
_CAMERAS: dict[str, tuple[str, str, list[dict[str, str]]]] = {
    "linux": ("v4l2", "/dev/video{}", [{}]),
    "darwin": ("avfoundation", "{}:none", [{"framerate": "30"}, {"framerate": "15"}, {}]),
    "win32": ("dshow", "video={}", [{"rtbufsize": "64M"}]),
}
_DEVICE = re.compile(r"/dev/video(\d+)")
_REDIRECTED = 5  # errno that FFmpeg gives a redirect which it does not follow


@dataclass(frozen=True)
class Address:
    """Something that sends frames by itself.

    shown: the text for people, files and pages: never holds a password, nor a query, which may
    hold a token; format: FFmpeg's name of the input format, None where it finds out; options: for
    its opening; access: what the user allows beyond the address itself.
    """

    shown: str
    target: str = field(repr=False)
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    access: Access = field(default_factory=Access)

    @property
    def on_the_web(self) -> bool:
        """Whether it is http:// or https://."""
        return self.target.startswith(("http://", "https://"))

    @property
    def ways(self) -> list[dict[str, str]]:
        """Options to try in turn.

        Some RTSP cameras speak UDP alone; what http:// sends may be a stream or a playlist.
        """
        if self.format:
            return {kind: ways for kind, _, ways in _CAMERAS.values()}.get(self.format, [{}])
        scheme = self.target.partition("://")[0].lower()
        if scheme in ("rtsp", "rtsps"):
            return [{**self.options, "rtsp_transport": name} for name in ("tcp", "udp")]
        if not self.on_the_web:
            return [self.options]
        ways = [self.options, _PLAYLIST_OPTIONS]
        return ways[::-1] if re.search(r"\.m3u8?$", urlsplit(self.target).path, re.I) else ways

    @property
    def advice(self) -> str:
        """What to look at where it does not open."""
        if self.format:
            return _choice(self.format)
        return "check the address, the network and the password"

    @classmethod
    def parse(cls, text: str, access: Access | None = None) -> Address | None:
        """The address that ``text`` is, None for what can only be a path.

        ``0`` and ``/dev/video0`` are cameras of this machine, unless a file or folder is called 0.
        A user without a password gets that of ``access``, or of the environment's
        HEDGE_SOURCE_PASSWORD. Raises HedgeError for a scheme that is not allowed, and for what is
        no address; neither shows a password.
        """
        if text.isdecimal() and not Path(text).exists():  # a folder of photos may be called 2024
            return camera(int(text))
        if device := _DEVICE.fullmatch(text):
            return replace(camera(int(device[1]), "linux"), shown=text)
        if "://" not in text:
            return None
        scheme, _, rest = text.partition("://")
        scheme, access = scheme.lower(), access or Access()
        if scheme not in SCHEMES:
            named = scheme if re.fullmatch(r"[a-z][a-z0-9+.-]{0,20}", scheme) else "…"
            raise HedgeError(
                f"{named}:// is not read; give {'://, '.join(SCHEMES)}://, or the path of a file"
            )
        login, place = login_of(rest)
        if not names_host(place) or not rest.isprintable() or " " in place:
            raise HedgeError(
                f"{scheme}://…: names no host; in a password, write @ / # ? as %40 %2F %23 %3F"
            )
        if login and "@" in re.split(r"[?#]", place, maxsplit=1)[0]:
            raise HedgeError(f"{scheme}://…: which @ ends the password? write the others as %40")
        login = _quoted(login)
        password = access.password or os.environ.get(PASSWORD_VARIABLE, "")
        if login and password and ":" not in login:
            login += f":{quote(password, safe='')}"
        target = f"{scheme}://{f'{login}@' if login else ''}{place}"
        options = SCHEMES[scheme]
        if scheme.endswith("s"):
            options = options | access.tls_options()
        return cls(redacted(text), target, None, options, access)

    def open(
        self,
        options: dict[str, str],
        timeout: tuple[float, float],
        accel: HWAccel | None = None,
    ) -> av.container.InputContainer:
        """Open it with FFmpeg; options: one of ``ways``, and more; accel: what decodes it.

        Raises what PyAV raises, and HedgeError where it leads to a place that it may not.
        """
        web = Web(self.target, self.shown, self.access) if self.on_the_web else None
        if web and options.keys() >= _PLAYLIST_OPTIONS.keys():
            return av.open(
                self.target, format="hls", options=options, timeout=timeout,
                metadata_errors="replace", io_open=web.io_open, hwaccel=accel,
            )  # fmt: skip
        target = self.target
        while True:
            try:
                return av.open(
                    target, format=self.format, options=options, timeout=timeout,
                    metadata_errors="replace", hwaccel=accel,
                )  # fmt: skip
            except av.FFmpegError as error:
                if not web or error.errno != _REDIRECTED or target != self.target:
                    raise
                target = web.final(self.target)
                if target == self.target:
                    raise
            except ValueError:  # cameras of another system
                raise HedgeError(
                    f"{self.shown}: FFmpeg has no {self.format} here; {self.advice}"
                ) from None


def camera(number: int, system: str = sys.platform) -> Address:
    """The camera with this number, from 0, on ``system``; HedgeError where Windows has no such."""
    kind, place, _ = _CAMERAS.get(system, _CAMERAS["linux"])
    name = str(number)
    if kind == "dshow":  # which knows them by name alone
        found = _cameras(kind)
        if number >= len(found):
            raise HedgeError(f"camera {number}: there is none; {_choice(kind)}")
        name = found[number]
    return Address(f"camera {number}", place.format(name), kind)


def _cameras(kind: str) -> list[str]:
    """Names of this machine's cameras as FFmpeg's ``kind`` takes them."""
    try:
        devices = av.enumerate_input_devices(kind)
    except (av.FFmpegError, OSError, ValueError):  # ValueError: of another system
        return []
    return [d.name for d in devices if not d.media_types or "video" in d.media_types]


def _choice(kind: str) -> str:
    return f"cameras here: {', '.join(_cameras(kind)) or 'none that FFmpeg finds'}"


def password_of(file: Path | None) -> str:
    """The first line of a password file, nothing without one; HedgeError where it has none."""
    if file is None:
        return ""
    try:
        with file.open(encoding="utf-8") as lines:
            password = lines.readline(1000).rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise HedgeError(f"{file}: no readable password file ({type(error).__name__})") from None
    if not password:
        raise HedgeError(f"{file}: its first line is empty; write the password there")
    return password


def _quoted(login: str) -> str:
    """``user:password`` with every sign escaped once, whether it was or not."""
    user, colon, password = login.partition(":")
    return colon.join(
        quote(unquote(part, errors="surrogateescape"), safe="", errors="surrogateescape")
        for part in ((user, password) if colon else (user,))
    )
