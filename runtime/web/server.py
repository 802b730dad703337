"""A page to watch a stream on: the overlay, the latency, the drops, the classes, the passport.

One slot holds the latest picture. Clients that are slow, or never read, keep nobody waiting: they
get whatever is the latest when they are ready. Nothing is drawn or encoded while nobody looks.
Which classes are drawn, and how strongly, each client says in the query of its stream.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from runtime.errors import HedgeError
from runtime.files import safe_json
from runtime.interrupt import Closing
from runtime.outputs.alarms import Zone
from runtime.outputs.overlay import Look, Overlay
from runtime.outputs.report import Report
from runtime.run import Lately, Run
from runtime.web.access import HEADERS, TOKEN_VARIABLE, Guard, token_for
from runtime.web.prometheus import prometheus_text

PICTURES_PER_S = 10
WIDTH = 960  # of the picture on the page, at most
_QUALITY = 80  # of its JPEG
_SEND_BYTES = 128 * 1024
_CLIENTS = 100  # connections, with a token or without: each is one of the process's open files
_WAITING = 16  # of those that the system holds until they are taken, all at once
_ASKS_S = 10.0  # in which who connects says what for
_STATE_S = 0.5  # the numbers are added up at most so often, however many ask
_HISTORY = 180  # seconds of class shares
_LOOKS = 8  # whose memory is kept, whatever clients ask for
_PAGE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class State:
    """All the page shows.

    shares: of each class in the pictures of the last minutes; opacity: of the colours, unless a
    client asks for another.
    """

    report: Report
    lately: Lately
    shares: list[list[float]]
    classes: list[dict[str, str]]
    opacity: float
    passport: dict[str, object]


class WebView(Closing):
    """Serves one run on ``http://host:port`` from a thread of its own; a context manager.

    Listens as soon as it is made. A host that others can reach needs a token, in the environment
    variable HEDGE_TOKEN, which ``url`` carries as ``?token=``; ``shown`` is the same for logs, with
    the variable's name. look: how classes are drawn for who asks for nothing else; zones: are
    outlined. Raises HedgeError where the address cannot be used.
    """

    def __init__(
        self, run: Run, host: str, port: int, look: Look | None = None, zones: Sequence[Zone] = ()
    ) -> None:
        self._run = run
        self._look = look or Look()
        classes = run.segmenter.manifest.classes
        self._overlay = lru_cache(_LOOKS)(lambda wanted: Overlay(classes, "", wanted, zones))
        self._token = token_for(host)
        self._socket = _listen(host, port)
        named = f"[{host}]" if ":" in host else host
        place = f"http://{named}:{self._socket.getsockname()[1]}"
        self.url = self.shown = place
        if self._token:  # printed, it would stay in logs
            self.url = f"{place}/?token={self._token}"
            self.shown = f"{place}/?token=${TOKEN_VARIABLE}"
        self._lock = threading.Lock()
        self._frame: tuple[np.ndarray, np.ndarray] | None = None  # image and labels
        self._number = 0  # of the latest frame
        self._jpegs: dict[Look, bytes] = {}  # of it
        self._watchers = 0
        self._taken = 0.0
        self._shares: deque[list[float]] = deque(maxlen=_HISTORY)
        self._counted = 0.0
        self._state: State | None = None
        self._taken_up = 0.0  # when that was
        routes = [
            Route("/", self._page, methods=["GET"]),
            Route("/stream.mjpeg", self._stream, methods=["GET"]),
            Route("/state.json", self._state_json, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]
        guard = Middleware(Guard, token=self._token, local=self._token is None)
        app = Starlette(routes=routes, middleware=[guard])
        config = uvicorn.Config(
            app, http=_Connection, backlog=_WAITING, log_config=None, access_log=False,
            log_level="error",  # else whoever connects writes lines into the run's terminal
            lifespan="off", timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="web", daemon=True
        )
        self._thread.start()

    def wants(self) -> bool:
        """Whether somebody looks and is due a new picture."""
        return self._watchers > 0 and time.monotonic() - self._taken > 1 / PICTURES_PER_S

    def show(self, image: np.ndarray, labels: np.ndarray) -> None:
        """Make (H, W, 3) uint8 BGR ``image`` and its (H, W) labels the latest; copied, smaller."""
        scale = min(1.0, WIDTH / image.shape[1])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        own = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        small, own = small.copy() if small is image else small, own.copy() if own is labels else own
        with self._lock:
            self._frame, self._number = (small, own), self._number + 1
            self._jpegs.clear()
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

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers=HEADERS)

    async def _state_json(self, request: Request) -> Response:
        return Response(safe_json(self._current()), media_type="application/json", headers=HEADERS)

    async def _metrics(self, request: Request) -> Response:
        state = self._current()
        latest = state.shares[-1] if state.shares else []
        names = self._run.segmenter.manifest.classes.names
        text = prometheus_text(state.report, dict(zip(names, latest, strict=False)))
        return PlainTextResponse(text, headers=HEADERS)

    async def _stream(self, request: Request) -> Response:
        kind = "multipart/x-mixed-replace; boundary=frame"
        try:
            look = self._asked(request)
        except ValueError:
            text = "hidden is numbers of classes, as in 0,3; opacity is a number of 0 to 1"
            return PlainTextResponse(text, 400, headers=HEADERS)
        return StreamingResponse(self._pictures(look), media_type=kind, headers=HEADERS)

    def _asked(self, request: Request) -> Look:
        """The look that a stream's query asks for: ``hidden`` classes and ``opacity``."""
        asked = request.query_params.get("opacity")
        hidden = {
            int(number) for number in request.query_params.get("hidden", "").split(",") if number
        }
        look = self._look if asked is None else replace(self._look, opacity=round(float(asked), 2))
        if not 0 <= look.alpha <= 1:
            raise ValueError(asked)
        if not hidden:
            return look
        classes = self._run.segmenter.manifest.classes
        drawn = self._look.shown(classes)
        only = tuple(n for i, n in enumerate(classes.names) if drawn[i] and i not in hidden)
        return replace(look, only=only) if only else replace(look, opacity=0.0)

    async def _pictures(self, look: Look) -> AsyncIterator[bytes]:
        """The latest picture whenever the client has taken the one before."""
        sent = 0
        self._watchers += 1
        try:
            while not self._server.should_exit:
                if self._number == sent:
                    await asyncio.sleep(0.5 / PICTURES_PER_S)
                    continue
                sent, jpeg = await asyncio.to_thread(self._encode, look)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                yield head.encode() + jpeg + b"\r\n"
        finally:
            self._watchers -= 1

    def _encode(self, look: Look) -> tuple[int, bytes]:
        """The latest frame's number and its JPEG, made once for all clients that look alike."""
        with self._lock:
            if look not in self._jpegs:
                assert self._frame is not None, "its number is not 0"
                picture = self._overlay(look).zoned(*self._frame)
                quality = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
                self._jpegs[look] = cv2.imencode(".jpg", picture, quality)[1].tobytes()
            return self._number, self._jpegs[look]

    def _current(self) -> State:
        if self._state is None or time.monotonic() - self._taken_up > _STATE_S:
            classes = self._run.segmenter.manifest.classes
            colors = [f"rgb({r}, {g}, {b})" for r, g, b in classes.colors]
            self._state = State(
                report=self._run.report(),
                lately=self._run.lately(),
                shares=list(self._shares),
                classes=[
                    {"name": name, "color": color}
                    for name, color in zip(classes.names, colors, strict=True)
                ],
                opacity=self._look.alpha,
                passport=_passport(self._run),
            )
            self._taken_up = time.monotonic()
        return self._state


class _Connection(H11Protocol):
    """A client, unless there are too many: files that the stream is written to must still open."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > _CLIENTS:
            transport.abort()
        self.loop.call_later(_ASKS_S, self._leave_silent)

    def _leave_silent(self) -> None:
        if self.cycle is None:  # not one request so far
            self.transport.close()


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


def _passport(run: Run) -> dict[str, object]:
    manifest = run.segmenter.manifest
    calibration = manifest.calibration or {}
    return {
        "name": manifest.name,
        "variant": manifest.variant,
        "backbone": manifest.backbone,
        "precision": manifest.precision,
        "input": list(manifest.input.shape),
        "files": manifest.files,
        "measured": manifest.measured.to_json(),
        "calibration": {k: v for k, v in calibration.items() if k != "images"} or None,
        "built_with": manifest.built_with,
    }
