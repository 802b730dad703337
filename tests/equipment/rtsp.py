"""A camera that misbehaves on demand: an RTSP server of H.264 over interleaved TCP, on loopback."""

from __future__ import annotations

import base64
import io
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import av
import numpy as np

FPS = 25
_PAYLOAD = 96  # the first dynamic RTP payload type
_PACKET = 1200  # bytes of a NAL unit in one RTP packet
_IDR, _SPS, _PPS, _FU_A = 5, 7, 8, 28

Script = Callable[[int, int], str | None]
"""(connection, frame) → None, "drop" (hang up), "stall" (send nothing), "swap" (other clip)."""


def clip(height: int, width: int, count: int = 50) -> list[list[bytes]]:
    """NAL units by frame; a bar wanders over grey, a key frame comes every ten frames."""
    data = io.BytesIO()
    with av.open(data, "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {
            "preset": "ultrafast", "tune": "zerolatency", "g": "10",
            "x264-params": "repeat-headers=1:slices=1:sliced-threads=0",
        }  # fmt: skip
        for number in range(count):
            image = np.full((height, width, 3), 90, np.uint8)
            image[:, 4 * number % width :][:, :16] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    return list(_frames(data.getvalue()))


def _frames(stream: bytes) -> Iterator[list[bytes]]:
    units = [u.rstrip(b"\0") for u in stream.split(b"\0\0\1")]
    frame: list[bytes] = []
    for unit in filter(None, units):
        frame.append(unit)
        if unit[0] & 31 in (1, _IDR):
            yield frame
            frame = []


class RtspServer:
    """Serves ``clips[0]`` in a loop to everyone who connects; a context manager.

    script: what goes wrong; login: "user:password" to ask for; away: seconds after a "drop" in
    which everybody who connects is sent away. events: (what, monotonic time): "connect", "play",
    "drop", "stall".
    """

    def __init__(
        self,
        clips: list[list[list[bytes]]],
        script: Script = lambda connection, frame: None,
        login: str | None = None,
        away: float = 0.0,
    ) -> None:
        self.clips, self.script, self.login, self.away = clips, script, login, away
        self.events: list[tuple[str, float]] = []
        self._plays = 0
        self._back = 0.0  # when it answers again
        self._alive = True
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, login: str = "") -> str:
        return f"rtsp://{login}{'@' if login else ''}127.0.0.1:{self.port}/live"

    def close(self) -> None:
        self._alive = False
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._socket.close()
        for client in self._clients:
            client.close()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while self._alive:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.events.append(("connect", time.monotonic()))
            if time.monotonic() < self._back:
                client.close()
                continue
            self._clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        lines = client.makefile("rb")
        try:
            while request := lines.readline().decode("latin1").split():
                headers = dict(_headers(lines))
                code, extra, body = self._answer(request[0], request[1], headers)
                text = f"RTSP/1.0 {code}\r\nCSeq: {headers.get('cseq', '0')}\r\n{extra}\r\n{body}"
                client.sendall(text.encode())
                if request[0] == "PLAY":
                    self._play(client)
                    return
        except (OSError, ValueError):
            pass  # the client left, or the test is over
        finally:
            lines.close()
            client.close()

    def _answer(self, method: str, url: str, headers: dict[str, str]) -> tuple[str, str, str]:
        if method == "OPTIONS":
            return "200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""
        if method == "SETUP":
            transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            return "200 OK", f"{transport}Session: 1;timeout=60\r\n", ""
        if method != "DESCRIBE":
            return "200 OK", "Session: 1\r\n", ""
        if self.login is not None:
            wanted = "Basic " + base64.b64encode(self.login.encode()).decode()
            if headers.get("authorization") != wanted:
                return "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n', ""
        units = {unit[0] & 31: base64.b64encode(unit).decode() for unit in self.clips[0][0]}
        body = (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nc=IN IP4 0.0.0.0\r\n"
            f"m=video 0 RTP/AVP {_PAYLOAD}\r\na=rtpmap:{_PAYLOAD} H264/90000\r\n"
            f"a=fmtp:{_PAYLOAD} packetization-mode=1;"
            f"sprop-parameter-sets={units[_SPS]},{units[_PPS]}\r\na=control:track0\r\n"
        )
        kind = f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\n"
        return "200 OK", f"{kind}Content-Length: {len(body)}\r\n", body

    def _play(self, client: socket.socket) -> None:
        connection, self._plays = self._plays, self._plays + 1
        self.events.append(("play", time.monotonic()))
        frames, sequence, number, started = self.clips[0], 0, 0, time.monotonic()
        while self._alive:
            fault = self.script(connection, number)
            if fault in ("drop", "stall"):
                self.events.append((fault, time.monotonic()))
            if fault == "drop":
                self._back = time.monotonic() + self.away
                return
            while fault == "stall" and self._alive:
                if _has_left(client):
                    return
                fault = self.script(connection, number)
            frames = self.clips[1] if fault == "swap" else frames
            units = frames[number % len(frames)]
            for unit in units:
                for payload, last in _fragments(unit):
                    marker = 0x80 if last and unit is units[-1] else 0
                    stamp = number * 90_000 // FPS & 0xFFFFFFFF
                    header = struct.pack(
                        "!BBHII", 0x80, _PAYLOAD | marker, sequence & 0xFFFF, stamp, 1
                    )
                    sequence += 1
                    packet = header + payload
                    client.sendall(b"$\0" + struct.pack("!H", len(packet)) + packet)
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


def _fragments(unit: bytes) -> Iterator[tuple[bytes, bool]]:
    """RTP payloads of a NAL unit, and whether each is the last (RFC 6184, FU-A)."""
    if len(unit) <= _PACKET:
        yield unit, True
        return
    pieces = [unit[at : at + _PACKET] for at in range(1, len(unit), _PACKET)]
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        flags = (0x80 if number == 0 else 0) | (0x40 if last else 0)
        yield bytes([unit[0] & 0xE0 | _FU_A, flags | unit[0] & 31]) + piece, last


def _headers(lines: io.BufferedReader) -> Iterator[tuple[str, str]]:
    while line := lines.readline().strip():
        name, _, value = line.decode("latin1").partition(":")
        yield name.lower(), value.strip()
