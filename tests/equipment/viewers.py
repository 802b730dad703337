"""Fifty web clients, of which forty-five never read: what the stream pays for them."""

from __future__ import annotations

import multiprocessing
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median

from rich.progress import track

from runtime import cli
from runtime.outputs.writer import Wanted, Writer
from runtime.pipeline import stream
from runtime.run import Run
from runtime.segment import Segmenter
from runtime.sources.open import open_source
from runtime.web.server import WebView
from tests.equipment.check import Check

READING, SILENT = 5, 45
LOSS = 0.05  # of the frames per second
_READY_S = 20.0


def viewers(engine: Path, video: Path, rounds: int) -> list[Check]:
    """Frames per second with and without the clients, in turn, of the same frames."""
    ratios, cpu = [], []
    with Segmenter(engine, "openvino", threads=2, in_flight=2) as segmenter:
        for _ in track(range(rounds), "fifty web clients", console=cli.err):
            alone, watched = (_pass(engine, segmenter, video, many) for many in (False, True))
            ratios.append(watched[0] / alone[0])
            cpu.append(watched[1] / alone[1] - 1)
    lost = 1 - median(ratios)
    found = f"{100 * lost:+.1f} % ({100 * median(cpu):+.1f} % of CPU), medians of {rounds} rounds"
    return [Check("50 web clients, 45 silent", "fps −5 % at most", found, lost <= LOSS)]


def _pass(engine: Path, segmenter: Segmenter, video: Path, watched: bool) -> tuple[float, float]:
    """Frames per second, and CPU milliseconds a frame of this process, over ``video``."""
    with ExitStack() as stack:
        source = stack.enter_context(open_source(str(video)))
        run = Run(source, segmenter, engine)
        view = stack.enter_context(WebView(run, "127.0.0.1", 0))
        if watched:
            stack.enter_context(_clients(view))
        writer = stack.enter_context(Writer(source, segmenter, Wanted(), view))
        predictions = stack.enter_context(closing(stream(source, segmenter)))
        run.begin()
        cpu = time.process_time()
        for prediction in predictions:
            run.score(prediction)
            run.add(prediction, writer.write(prediction, run.status(prediction), {}))
        return run.written / run.seconds, (time.process_time() - cpu) * 1e3 / run.written


@contextmanager
def _clients(view: WebView) -> Iterator[None]:
    """Everybody connected, in a process of their own."""
    context = multiprocessing.get_context("spawn")
    ready, over = context.Event(), context.Event()
    process = context.Process(target=_watch, args=(port_of(view), ready, over), daemon=True)
    process.start()
    try:
        assert ready.wait(_READY_S), "the clients did not connect"
        yield
    finally:
        over.set()
        process.join(_READY_S)


def port_of(view: WebView) -> int:
    """The port that the page is served at."""
    return int(view.url.split("?")[0].rstrip("/").rsplit(":", 1)[1])


def watch(port: int, path: str = "/stream.mjpeg") -> socket.socket:
    """Ask the page at ``port`` for its stream; the answer has yet to be read."""
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client


def _watch(port: int, ready: Event, over: Event) -> None:
    """Ask for the stream fifty times; read of five answers only."""
    clients = [watch(port) for _ in range(READING + SILENT)]
    awake = selectors.DefaultSelector()
    for client in clients[:READING]:
        awake.register(client, selectors.EVENT_READ)
    ready.set()
    while not over.is_set():
        for key, _ in awake.select(0.1):
            key.fileobj.recv(1 << 20)  # type: ignore[union-attr]
    for client in clients:
        client.close()
