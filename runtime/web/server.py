"""A page to watch a stream on: the overlay, the latency, the drops, the classes, the passport.

One slot holds the latest picture. Clients that are slow, or never read, keep nobody waiting: they
get whatever is the latest when they are ready. Nothing is drawn or encoded while nobody looks.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import msgspec
import numpy as np
import uvicorn
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.errors import HedgeError
from runtime.outputs.video_file import safe_json
from runtime.report import Run

LOOPBACK = "127.0.0.1"
TOKEN_VARIABLE = "HEDGE_TOKEN"  # in the environment: a command line is seen by every user
PICTURES_PER_S = 10
WIDTH = 960  # of the picture on the page, at most
_QUALITY = 80  # of its JPEG
_SEND_BYTES = 128 * 1024
_STATE_S = 0.5  # the numbers are added up at most so often, however many ask
_HISTORY = 180  # seconds of class shares
_PAGE = Path(__file__).with_name("page.html")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; connect-src 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class WebView:
    """Serves one run on ``http://host:port`` from a thread of its own; a context manager.

    Listens as soon as it is made. A host that others can reach needs a token, in the environment
    variable HEDGE_TOKEN, which the address carries as ``?token=``. Raises HedgeError where the
    address cannot be used.
    """

    def __init__(self, run: Run, host: str, port: int) -> None:
        self._run = run
        self._token = _token(host)
        self._socket = _listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        token = f"/?token={self._token}" if self._token else ""
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}{token}"
        self._lock = threading.Lock()
        self._image: np.ndarray | None = None
        self._number = 0  # of the latest picture
        self._jpeg: tuple[int, bytes] = (0, b"")
        self._watchers = 0
        self._taken = 0.0
        self._shares: deque[list[float]] = deque(maxlen=_HISTORY)
        self._counted = 0.0
        self._state: tuple[float, dict[str, Any]] = (float("-inf"), {})
        routes = [
            Route("/", self._page, methods=["GET"]),
            Route("/stream.mjpeg", self._stream, methods=["GET"]),
            Route("/state.json", self._state_json, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]
        guard = Middleware(_Guard, token=self._token, local=self._token is None)
        app = Starlette(routes=routes, middleware=[guard])
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="web", daemon=True
        )
        self._thread.start()

    def wants(self) -> bool:
        """Whether somebody looks and is due a new picture."""
        return self._watchers > 0 and time.monotonic() - self._taken > 1 / PICTURES_PER_S

    def show(self, image: np.ndarray) -> None:
        """Make (H, W, 3) uint8 BGR ``image`` the latest picture; it is copied, smaller."""
        scale = min(1.0, WIDTH / image.shape[1])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        small = small.copy() if small is image else small
        with self._lock:
            self._image, self._number = small, self._number + 1
        self._taken = time.monotonic()

    def count(self, labels: np.ndarray) -> None:
        """Note the class shares of (H, W) uint8 ``labels``, once a second."""
        now = time.monotonic()
        if now - self._counted < 1:
            return
        self._counted = now
        classes = len(self._run.segmenter.manifest.classes)
        areas = np.bincount(labels[::4, ::4].ravel(), minlength=256)[:classes]
        self._shares.append((areas / max(1, areas.sum())).round(4).tolist())

    def close(self) -> None:
        """Stop listening and send everybody away."""
        self._server.should_exit = True
        self._thread.join(3)
        self._socket.close()

    def __enter__(self) -> WebView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers=_HEADERS)

    async def _state_json(self, request: Request) -> Response:
        return Response(safe_json(self._current()), media_type="application/json", headers=_HEADERS)

    async def _metrics(self, request: Request) -> Response:
        return PlainTextResponse(_prometheus(self._current()), headers=_HEADERS)

    async def _stream(self, request: Request) -> Response:
        kind = "multipart/x-mixed-replace; boundary=frame"
        return StreamingResponse(self._pictures(), media_type=kind, headers=_HEADERS)

    async def _pictures(self) -> AsyncIterator[bytes]:
        """The latest picture whenever the client has taken the one before."""
        sent = 0
        self._watchers += 1
        try:
            while not self._server.should_exit:
                if self._number == sent:
                    await asyncio.sleep(0.5 / PICTURES_PER_S)
                    continue
                if self._jpeg[0] != self._number:
                    await asyncio.to_thread(self._encode)
                sent, jpeg = self._jpeg
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                yield head.encode() + jpeg + b"\r\n"
        finally:
            self._watchers -= 1

    def _encode(self) -> None:
        """Make the latest picture a JPEG, once for all clients."""
        with self._lock:
            if self._jpeg[0] != self._number and self._image is not None:
                quality = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
                self._jpeg = (self._number, cv2.imencode(".jpg", self._image, quality)[1].tobytes())

    def _current(self) -> dict[str, Any]:
        """All the page shows, as JSON would hold it."""
        taken, state = self._state
        if time.monotonic() - taken > _STATE_S:
            manifest = self._run.segmenter.manifest
            state = {
                "report": self._run.report(),
                "shares": list(self._shares),
                "classes": [
                    {"name": name, "color": f"rgb({b[2]}, {b[1]}, {b[0]})"}
                    for name, b in zip(
                        manifest.classes.names, manifest.classes.palette().tolist(), strict=False
                    )
                ],
                "passport": msgspec.to_builtins(_passport(self._run)),
            }
            state = json.loads(msgspec.json.encode(state))  # one copy: the run goes on meanwhile
            self._state = (time.monotonic(), state)
        return state


class _Guard:
    """Refuses foreign Host headers (DNS rebinding), and who does not have the token."""

    def __init__(self, app: ASGIApp, token: str | None, local: bool) -> None:
        self._app, self._token, self._local = app, token, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope)
        if refusal := self._refusal(request):
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if request.method != "GET":
            return PlainTextResponse("GET only", 405, headers={**_HEADERS, "Allow": "GET"})
        if self._local and _host(request) not in (LOOPBACK, "localhost", "::1"):
            return PlainTextResponse("unknown host", 400, headers=_HEADERS)
        given = request.query_params.get("token", "")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._token is not None and not any(
            hmac.compare_digest(self._token.encode(), text.encode()) for text in (given, bearer)
        ):
            return PlainTextResponse("the address needs its ?token=", 401, headers=_HEADERS)
        return None


def _host(request: Request) -> str | None:
    """The name in the Host header; Starlette's own puts the server's where there is none."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:
        return None


def _token(host: str) -> str | None:
    try:
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return None
    except ValueError:
        raise HedgeError(f"--serve-host {host}: give an IP address of this machine") from None
    token = os.environ.get(TOKEN_VARIABLE, "")
    if len(token) < 8:
        raise HedgeError(
            f"--serve-host {host}: others can reach it; set {TOKEN_VARIABLE} to a secret of 8 "
            f"characters or more, such as {secrets.token_urlsafe(12)}"
        )
    return token


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP: asyncio only then sends small answers at once instead of after 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Of each client: else the system keeps megabytes of old pictures for those who do not read.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
    try:
        listener.bind((host, port))
        listener.listen()
        return listener
    except (OSError, OverflowError) as error:
        listener.close()
        cause = getattr(error, "strerror", None) or str(error)
        raise HedgeError(
            f"--serve {port}: cannot listen on {host} ({cause}); give another port"
        ) from error


def _passport(run: Run) -> dict[str, Any]:
    manifest = run.segmenter.manifest
    calibration = manifest.calibration or {}
    return {
        "name": manifest.name,
        "variant": manifest.variant,
        "backbone": manifest.backbone,
        "precision": manifest.precision,
        "input": list(manifest.input.shape),
        "files": manifest.files,
        "measured": manifest.measured,
        "calibration": {k: v for k, v in calibration.items() if k != "images"} or None,
        "built_with": manifest.built_with,
    }


def _prometheus(state: dict[str, Any]) -> bytes:
    collectors = CollectorRegistry()
    collectors.register(_Metrics(state))
    return generate_latest(collectors)


class _Metrics(Collector):
    """What Prometheus is told of one state of the stream; what is not known is left out."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        report = self._state["report"]
        gaps = report["gaps"]
        values = {
            f"frames_{what}": (f"Frames {what} since the start", report[f"frames_{what}"])
            for what in ("read", "written", "dropped", "damaged")
        } | {
            "fps": ("Frames per second since the start", report["fps"]),
            "miou": ("Mean IoU so far, 0 to 1", report["miou"]),
            "gaps": ("Times without frames that were survived", gaps and gaps["count"]),
        }
        for name, (text, value) in values.items():
            if value is not None:
                yield GaugeMetricFamily(f"hedge_{name}", text, value)
        latency = GaugeMetricFamily(
            "hedge_latency_ms", "Milliseconds a frame", labels=["stage", "quantile"]
        )
        for stage, percentiles in report["latency_ms"].items():
            for name, value in percentiles.items():
                if value is not None:
                    latency.add_metric([stage, f"0.{name[1:]}"], value)
        yield latency
        share = GaugeMetricFamily("hedge_class_share", "Share of the picture", labels=["name"])
        if self._state["shares"]:
            for row, value in zip(self._state["classes"], self._state["shares"][-1], strict=True):
                share.add_metric([row["name"]], value)
        yield share
