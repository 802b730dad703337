"""The page: what it serves, to whom, and that nobody can hold the stream up."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from runtime.errors import HedgeError
from runtime.run import Run
from runtime.segment import Segmenter
from runtime.sources.open import open_source
from runtime.video import VideoConfig, main
from runtime.web.access import TOKEN_VARIABLE
from runtime.web.server import WebView
from tests.equipment.viewers import port_of, watch

Make = Callable[..., Path]
Answer = tuple[http.client.HTTPResponse, bytes]
EVIL = "<img src=x onerror=alert(1)>.mp4"


@pytest.fixture(scope="module")
def segmenter(shared_bundle: Path) -> Iterator[Segmenter]:
    with Segmenter(shared_bundle, "onnxruntime", 1) as loaded:
        yield loaded


@pytest.fixture
def run(
    segmenter: Segmenter, shared_bundle: Path, make_clip: Make, tmp_path: Path
) -> Iterator[Run]:
    """A run over a video with an evil name, two frames in."""
    with open_source(str(make_clip(tmp_path / EVIL, 6))) as source:
        run = Run(source, segmenter, shared_bundle)
        frames = iter(source)
        for _ in range(2):
            prediction = segmenter.predict(next(frames))
            run.score(prediction)
            run.add(prediction, 1.0)
        yield run


@pytest.fixture
def view(run: Run) -> Iterator[WebView]:
    with WebView(run, "127.0.0.1", 0) as view:
        yield view


def ask(view: WebView, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(view), timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def pictures(view: WebView, client: socket.socket, count: int) -> list[np.ndarray]:
    """JPEGs as a browser would take them, while new ones are shown."""
    data, found = b"", []
    client.settimeout(0.02)
    deadline = time.monotonic() + 10
    while len(found) < count:
        assert time.monotonic() < deadline
        if view.wants():
            image = np.full((48, 64, 3), 40 * len(found) + 40, np.uint8)
            view.show(image, np.full((48, 64), 255, np.uint8))
        with suppress(TimeoutError):
            data += client.recv(65536)
        while b"\xff\xd8" in data and b"\xff\xd9\r\n" in data:
            start, end = data.index(b"\xff\xd8"), data.index(b"\xff\xd9\r\n") + 2
            found.append(cv2.imdecode(np.frombuffer(data[start:end], np.uint8), cv2.IMREAD_COLOR))
            data = data[end:]
    return found


def wait_for_watchers(view: WebView) -> None:
    deadline = time.monotonic() + 10
    while not view.wants():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_page_needs_nothing_from_elsewhere(view: WebView) -> None:
    answer, body = ask(view, "/")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert b"//" not in body.replace(b"// ", b"")  # no address of any other server


def test_the_numbers_are_those_of_the_run(view: WebView, run: Run) -> None:
    view.count(np.zeros((8, 8), np.uint8))
    answer, body = ask(view, "/state.json")
    state: dict[str, Any] = json.loads(body)
    assert answer.headers["Content-Type"] == "application/json"
    assert state["report"]["frames_written"] == 2
    assert state["report"]["latency_ms"]["infer"]["p50"] > 0
    assert state["shares"][-1][0] == 1.0
    assert state["passport"]["files"] == run.segmenter.manifest.files
    assert EVIL in state["report"]["source"]


def test_numbers_of_now_are_not_those_of_days(view: WebView, run: Run) -> None:
    def lately() -> tuple[float, float]:
        state = json.loads(ask(view, "/state.json")[1])["lately"]
        return state["fps"], state["infer_ms"]["p50"]

    prediction = run.segmenter.predict(next(iter(run.source)))
    for infer_ms, count in ((10.0, 500), (90.0, 30)):  # the machine has become too hot
        for _ in range(count):
            run.add(replace(prediction, infer_ms=infer_ms), 1.0)
    fps, p50 = lately()
    assert p50 == 90.0
    time.sleep(1.0)  # no more frames come
    assert lately()[0] < min(fps, 30)


def test_prometheus_can_read_it(view: WebView) -> None:
    body = ask(view, "/metrics")[1].decode()
    assert "hedge_frames_written 2.0" in body
    assert 'hedge_latency_ms{quantile="0.50",stage="infer"}' in body


def test_an_evil_name_is_never_raw(view: WebView) -> None:
    for path in ("/", "/state.json", "/metrics"):
        assert b"<img src=x" not in ask(view, path)[1]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
def test_a_foreign_host_is_refused(host: str, view: WebView) -> None:
    assert ask(view, "/state.json", Host=host)[0].status == 400


def test_every_address_of_this_machine_alone_shows_the_page(run: Run) -> None:
    with WebView(run, "127.0.0.2", 0) as view:
        place = view.url.removeprefix("http://")
        connection = http.client.HTTPConnection(place, timeout=10)
        connection.request("GET", "/state.json")
        assert connection.getresponse().status == 200
        connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_only_get(method: str, view: WebView) -> None:
    assert ask(view, "/", method)[0].status == 405


def test_no_path_leads_out(view: WebView) -> None:
    parts = ("..", "%2e%2e", "..%2f", "%2e%2e%2f", "..\\", "%252e%252e", "....//", "/etc")
    targets = ("etc/passwd", "web.html", "web.py", "manifest.json", "proc/self/environ")
    paths = [
        f"/{start}{'/'.join([part] * depth)}/{target}"
        for part in parts for target in targets for depth in (1, 3, 8)
        for start in ("", "stream.mjpeg/")
    ]  # fmt: skip
    assert len(paths) > 200
    connection = http.client.HTTPConnection("127.0.0.1", port_of(view), timeout=10)
    for path in paths:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 404, path


def test_who_watches_gets_the_latest_pictures(view: WebView) -> None:
    assert not view.wants()
    with watch(port_of(view)) as client:
        wait_for_watchers(view)
        found = pictures(view, client, 3)
    assert [image.shape for image in found] == [(48, 64, 3)] * 3
    assert found[2].mean() > found[0].mean() + 20


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [154, 65, 65, 154]),
        ("?opacity=0", [100, 100, 100, 100]),
        ("?opacity=1", [255, 0, 0, 255]),
        ("?hidden=2", [154, 65, 100, 100]),
        ("?hidden=0,1,2", [100, 100, 100, 100]),
        ("?hidden=0&opacity=1", [100, 100, 0, 255]),
    ],
)
def test_each_client_says_what_is_drawn(query: str, expected: list[int], view: WebView) -> None:
    """Of a gray frame, left of class blue, right of class red: blue and red left, then right."""
    labels = np.repeat(np.array([[0, 2]], np.uint8), 32, axis=1).repeat(48, axis=0)
    view.show(np.full((48, 64, 3), 100, np.uint8), labels)
    with watch(port_of(view), f"/stream.mjpeg{query}") as client:
        data = b""
        while b"\xff\xd9\r\n" not in data:
            data += client.recv(65536)
    found = cv2.imdecode(np.frombuffer(data[data.index(b"\xff\xd8") :], np.uint8), cv2.IMREAD_COLOR)
    told = found[24, [8, 56]][:, [0, 2]].ravel()
    assert np.abs(told.astype(int) - expected).max() <= 6


@pytest.mark.parametrize("query", ["opacity=2", "opacity=nan", "opacity=x", "hidden=a"])
def test_a_look_that_there_is_not_is_refused(query: str, view: WebView) -> None:
    answer, body = ask(view, f"/stream.mjpeg?{query}")
    assert (answer.status, body[:9]) == (400, b"hidden is")


def test_clients_that_never_read_hold_nobody_up(view: WebView) -> None:
    large = np.random.default_rng(0).integers(256, size=(540, 960, 3), dtype=np.uint8)
    idle = [watch(port_of(view)) for _ in range(45)]
    try:
        wait_for_watchers(view)
        for _ in range(20):  # 20 × 45 pictures of half a megabyte: far beyond what buffers hold
            view.show(large, np.zeros((540, 960), np.uint8))
            time.sleep(0.02)
        with watch(port_of(view)) as client:
            assert len(pictures(view, client, 2)) == 2
        assert ask(view, "/state.json")[0].status == 200
    finally:
        for client in idle:
            client.close()


def test_a_crowd_takes_few_of_the_files_that_a_process_may_open(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To connect needs no token; outputs are files as well."""
    monkeypatch.setattr("runtime.web.server._CLIENTS", 10)
    with WebView(run, "127.0.0.1", 0) as view:
        crowd = [socket.create_connection(("127.0.0.1", port_of(view)), 10) for _ in range(40)]
        time.sleep(0.5)
        assert sum(not sent_away(client) for client in crowd) == 10
        for client in crowd:
            client.close()
        assert ask(view, "/")[0].status == 200


def test_who_asks_for_nothing_is_sent_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.web.server._ASKS_S", 0.3)
    with WebView(run, "127.0.0.1", 0) as view:
        silent = socket.create_connection(("127.0.0.1", port_of(view)), 10)
        with silent, watch(port_of(view)) as client:
            time.sleep(0.6)
            assert sent_away(silent)
            assert len(pictures(view, client, 2)) == 2


def sent_away(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
    except BlockingIOError:
        return False


def test_what_is_no_request_is_answered_and_writes_nothing_to_the_terminal(
    view: WebView, capsys: pytest.CaptureFixture[str]
) -> None:
    upgrade = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade"
    for words in (b"\x16\x03\x01\x02", upgrade):  # https://, and what its proxy may send
        with socket.create_connection(("127.0.0.1", port_of(view)), 10) as client:
            client.sendall(words + b"\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 ")
    assert capsys.readouterr().err == ""


def test_others_need_a_token(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HedgeError, match=TOKEN_VARIABLE):
        WebView(run, "0.0.0.0", 0)
    monkeypatch.setenv(TOKEN_VARIABLE, "long-enough-secret")
    with WebView(run, "0.0.0.0", 0) as view:
        for path in ("/", "/state.json", "/stream.mjpeg", "/metrics", "/?token=wrong"):
            assert ask(view, path)[0].status == 401
        assert ask(view, "/?token=long-enough-secret")[0].status == 200
        header = {"Authorization": "Bearer long-enough-secret"}
        assert ask(view, "/metrics", **header)[0].status == 200


def test_a_port_in_use_is_one_line(run: Run, view: WebView) -> None:
    with pytest.raises(HedgeError, match="cannot listen"):
        WebView(run, "127.0.0.1", port_of(view))


def test_the_command_serves_while_it_streams(
    shared_bundle: Path, make_clip: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = VideoConfig(
        source=str(make_clip(tmp_path / "clip.mp4", 6)),
        bundle=shared_bundle,
        backend="onnxruntime",
        serve=0,
    )
    assert main(config) == 0
    assert "watch it: http://127.0.0.1:" in capsys.readouterr().err


def test_the_token_is_not_printed(
    shared_bundle: Path, make_clip: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The shell that has the variable can open the address as it is printed."""
    monkeypatch.setenv(TOKEN_VARIABLE, "long-enough-secret")
    clip = str(make_clip(tmp_path / "clip.mp4", 6))
    assert main(VideoConfig(clip, shared_bundle, "onnxruntime", serve=0, serve_host="0.0.0.0")) == 0
    printed = "".join(capfd.readouterr())
    assert "/?token=$HEDGE_TOKEN" in printed and "long-enough-secret" not in printed
