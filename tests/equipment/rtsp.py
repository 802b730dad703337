"""A camera that misbehaves on demand: an RTSP server of H.264 over TCP or UDP, on loopback."""

from __future__ import annotations

import base64
import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.message import Message
from http.client import parse_headers
from socketserver import StreamRequestHandler, ThreadingTCPServer

import av
import numpy as np

FPS = 25
_PAYLOAD = 96  # the first dynamic RTP payload type
_PACKET = 1200  # bytes of a NAL unit in one RTP packet
_IDR, _SPS, _PPS, _FU_A = 5, 7, 8, 28
_WAIT_S = 60.0

Clip = list[list[bytes]]
"""NAL units by frame."""
Script = Callable[[int, int], str | None]
"""(connection, frame) → None, "drop" (hang up), "stall" (send nothing), "swap" (other clip)."""


def clip(height: int, width: int, count: int = 50, gop: int = 10) -> Clip:
    """A bar that wanders over grey; a key frame comes every ``gop`` frames."""
    data = io.BytesIO()
    with av.open(data, "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {
            "preset": "ultrafast", "tune": "zerolatency", "g": str(gop),
            "x264-params": "repeat-headers=1:slices=1:sliced-threads=0",
        }  # fmt: skip
        for number in range(count):
            image = np.full((height, width, 3), 90, np.uint8)
            image[:, 4 * number % width :][:, :16] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    return list(_frames(data.getvalue()))


def _frames(stream: bytes) -> Iterator[list[bytes]]:
    frame: list[bytes] = []
    for unit in filter(None, (part.rstrip(b"\0") for part in stream.split(b"\0\0\1"))):
        frame.append(unit)
        if unit[0] & 31 in (1, _IDR):
            yield frame
            frame = []


class RtspServer(ThreadingTCPServer):
    """Serves ``clips[0]`` in a loop to everyone who connects; a context manager.

    script: what goes wrong; login: "user:password" to ask for; away: seconds after a "drop" in
    which everybody who connects is sent away; tcp: False: it speaks UDP alone, "silent": it takes
    TCP, and sends nothing by it; first: the frame it begins with; told: whether its description
    holds the parameter sets. events: (what, monotonic time): "connect", "play", "drop", "stall".
    """

    daemon_threads = True
    block_on_close = False  # a client may stay after the test

    def __init__(
        self,
        clips: list[Clip],
        script: Script = lambda connection, frame: None,
        login: str | None = None,
        away: float = 0.0,
        tcp: bool | str = True,
        first: int = 0,
        told: bool = True,
    ) -> None:
        self.tcp, self.first, self.told = tcp, first, told
        self.clips, self.script, self.login, self.away = clips, script, login, away
        self.events: list[tuple[str, float]] = []
        self.plays = 0
        self.back = 0.0  # when it answers again
        self.alive = True
        super().__init__(("127.0.0.1", 0), _Camera)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, login: str = "") -> str:
        """Its address, with ``login`` in it where there is one."""
        return f"rtsp://{login}{'@' if login else ''}127.0.0.1:{self.server_address[1]}/live"

    def happens(self, what: str) -> None:
        """Note an event."""
        self.events.append((what, time.monotonic()))

    def wait_for(self, what: str) -> float:
        """When ``what`` first happened, as soon as it has; TimeoutError after a minute."""
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            for event, time_s in self.events:
                if event == what:
                    return time_s
            time.sleep(0.02)
        raise TimeoutError(f"no {what} among {self.events}")

    def verify_request(self, request: object, client_address: object) -> bool:
        """Whether who connects is let in."""
        self.happens("connect")
        return time.monotonic() >= self.back

    def server_close(self) -> None:
        """Hang up on nobody, but let nobody in any more, and send nothing more."""
        self.alive = False
        self.shutdown()
        super().server_close()


class _Camera(StreamRequestHandler):
    """One client: its requests are answered, and PLAY is the last of them."""

    server: RtspServer

    def handle(self) -> None:
        self._datagrams: tuple[socket.socket, int] | None = None  # to a port of the client
        with suppress(OSError, ValueError):  # the client left, or the test is over
            while request := self.rfile.readline().decode("latin1").split():
                headers = parse_headers(self.rfile)
                code, extra, body = self._answer(request[0], request[1], headers)
                text = f"RTSP/1.0 {code}\r\nCSeq: {headers['cseq']}\r\n{extra}\r\n{body}"
                self.wfile.write(text.encode())
                if request[0] == "PLAY":
                    return self._play()

    def _answer(self, method: str, url: str, headers: Message) -> tuple[str, str, str]:
        """Status, header lines and body."""
        if method == "OPTIONS":
            return "200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""
        if method == "SETUP":
            return self._set_up(headers["transport"])
        if method != "DESCRIBE":
            return "200 OK", "Session: 1\r\n", ""
        wanted = self.server.login
        login = headers["authorization"]
        if wanted is not None and login != f"Basic {base64.b64encode(wanted.encode()).decode()}":
            return "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n', ""
        first = self.server.clips[0][0]
        units = {unit[0] & 31: base64.b64encode(unit).decode() for unit in first}
        sets = f";sprop-parameter-sets={units[_SPS]},{units[_PPS]}"
        body = (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nc=IN IP4 0.0.0.0\r\n"
            f"m=video 0 RTP/AVP {_PAYLOAD}\r\na=rtpmap:{_PAYLOAD} H264/90000\r\n"
            f"a=fmtp:{_PAYLOAD} packetization-mode=1{sets if self.server.told else ''}\r\n"
            "a=control:track0\r\n"
        )
        kind = f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\n"
        return "200 OK", f"{kind}Content-Length: {len(body)}\r\n", body

    def finish(self) -> None:
        """Close what is open to the client."""
        if self._datagrams is not None:
            self._datagrams[0].close()
        super().finish()

    def _set_up(self, transport: str) -> tuple[str, str, str]:
        """Agree on TCP, or on a port of the client."""
        if "TCP" in transport:
            if not self.server.tcp:
                return "461 Unsupported Transport", "", ""
            transport = "RTP/AVP/TCP;unicast;interleaved=0-1"
        else:
            port = int(transport.partition("client_port=")[2].partition("-")[0])
            self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), port
            transport += f";server_port={port + 2}-{port + 3}"
        return "200 OK", f"Transport: {transport}\r\nSession: 1;timeout=60\r\n", ""

    def _send(self, packet: bytes) -> None:
        if self._datagrams is not None:
            self._datagrams[0].sendto(packet, ("127.0.0.1", self._datagrams[1]))
        elif self.server.tcp != "silent":
            self.wfile.write(b"$\0" + struct.pack("!H", len(packet)) + packet)

    def _play(self) -> None:
        server = self.server
        connection, server.plays = server.plays, server.plays + 1
        server.happens("play")
        frames, sequence, number, started = server.clips[0], 0, 0, time.monotonic()
        while server.alive and not (server.tcp is not True and _has_left(self.connection)):
            fault = server.script(connection, number)
            if fault in ("drop", "stall"):
                server.happens(fault)
            if fault == "drop":
                server.back = time.monotonic() + server.away
                return
            while fault == "stall" and server.alive:
                if _has_left(self.connection):
                    return
                fault = server.script(connection, number)
            frames = server.clips[1] if fault == "swap" else frames
            stamp = number * 90_000 // FPS & 0xFFFFFFFF
            for payload, last in _payloads(frames[(server.first + number) % len(frames)]):
                kind = _PAYLOAD | (0x80 if last else 0)
                head = struct.pack("!BBHII", 0x80, kind, sequence & 0xFFFF, stamp, 1)
                self._send(head + payload)
                sequence += 1
            number += 1
            time.sleep(max(0.0, started + number / FPS - time.monotonic()))


def _has_left(client: socket.socket) -> bool:
    """Whether the other side has hung up; waits a moment for it."""
    client.settimeout(0.02)
    try:
        return not client.recv(4096)
    except TimeoutError:
        return False
    finally:
        client.settimeout(None)


def _payloads(units: list[bytes]) -> Iterator[tuple[bytes, bool]]:
    """RTP payloads of a frame's NAL units, and whether each is its last (RFC 6184, FU-A)."""
    for unit in units:
        if len(unit) <= _PACKET:
            yield unit, unit is units[-1]
            continue
        pieces = [unit[at : at + _PACKET] for at in range(1, len(unit), _PACKET)]
        for number, piece in enumerate(pieces):
            ends = number == len(pieces) - 1
            flags = (0x80 if number == 0 else 0) | (0x40 if ends else 0) | unit[0] & 31
            yield bytes([unit[0] & 0xE0 | _FU_A, flags]) + piece, ends and unit is units[-1]
