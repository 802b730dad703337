"""Web servers on loopback: pages, redirects, and a camera that sends JPEGs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Answer GET requests to 127.0.0.1 by a function; the server's address, http://….

    The function writes to ``wfile``; a client that has hung up is forgotten.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(ConnectionError):
                answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def pages(bodies: dict[str, bytes]) -> Answer:
    """Serve ``bodies`` by path; one that is a file: URL redirects to it."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        body = bodies.get(request.path)
        moved = body is not None and body.startswith(b"file:")
        request.send_response(404 if body is None else 302 if moved else 200)
        if moved and body is not None:
            request.send_header("Location", body.decode())
        request.send_header("Content-Length", str(len(body or b"")))
        request.end_headers()
        request.wfile.write(body or b"")

    return answer


def breaking(
    body: bytes, breaks: int, ranges: bool, stall_s: float = 0.0, away_s: float = 0.0
) -> Answer:
    """Serve ``body``, and hang up half-way through what is left of it, ``breaks`` times.

    ranges: whether a client may go on where it was; stall_s: how long nothing is sent before;
    away_s: how long nobody is answered after it.
    """
    left, back = [breaks], [0.0]

    def answer(request: BaseHTTPRequestHandler) -> None:
        if time.monotonic() < back[0]:
            return
        wanted = request.headers.get("Range", "") if ranges else ""
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        request.send_response(206 if wanted else 200)
        if ranges:
            request.send_header("Accept-Ranges", "bytes")
            last = len(body) - 1
            request.send_header("Content-Range", f"bytes {start}-{last}/{len(body)}")
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        end = len(body)
        if left[0]:
            left[0] -= 1
            end = (start + end) // 2
        request.wfile.write(body[start:end])
        if end < len(body):
            time.sleep(stall_s)
            back[0] = time.monotonic() + away_s

    return answer


def mjpeg(request: BaseHTTPRequestHandler, kind: str = "image/jpeg") -> None:
    """Send JPEGs as web cameras do; kind: what they call each of them."""
    request.send_response(200)
    request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    request.end_headers()
    for number in range(1000):
        image = np.full((48, 64, 3), number % 200, np.uint8)
        data = cv2.imencode(".jpg", image)[1].tobytes()
        head = f"--frame\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
        request.wfile.write(head.encode() + data + b"\r\n")
        time.sleep(0.02)
