"""Passwords appear nowhere, certificates are checked, and no address leads to other places."""

from __future__ import annotations

import base64
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runtime.errors import HedgeError
from runtime.sources.address import PASSWORD_VARIABLE, Address, password_of
from runtime.sources.open import open_source
from runtime.video import VideoConfig, main
from runtime.web.client import Access
from runtime.web.hidden import redacted
from tests.equipment.http_server import Answer, serving
from tests.equipment.rtsp import RtspServer
from tests.equipment.rtsp import clip as rtsp_clip
from tests.equipment.videos import make_clip

SECRETS = [
    "pa/ss",
    "p#ss",
    "p@ss",
    "p?ss",
    "p%ss",
    "p%40ss",
    "pä ß",
    "12/34",
    "p://q",
    "päss:w",
    "@/#?%",
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Five frames that play from a server."""
    folder = tmp_path_factory.mktemp("clip")
    path = make_clip(folder / "a.ts", 5, codec="libx264", pixels="yuv420p")
    return path.read_bytes()


def plays(url: str, access: Access | None = None) -> bool:
    """Whether a frame comes of an address."""
    with open_source(url, access=access) as source, closing(iter(source)) as found:
        return next(found).image.shape == (24, 32, 3)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("place", ["127.0.0.1:1/live", "127.0.0.1:1/live?token=hidden", ""])
def test_no_part_of_a_password_is_told(
    secret: str, place: str, shared_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither by our errors nor by a library's log; pieces of three signs count as well."""
    for scheme in ("rtsp", "http") if secret == SECRETS[0] else ("rtsp",):  # http tries for 4 s
        with pytest.raises(HedgeError) as caught:
            main(VideoConfig(f"{scheme}://admin:{secret}@{place}", shared_bundle))
        told = str(caught.value) + "".join(capfd.readouterr())
        assert secret not in told and "admin" not in told and "hidden" not in told
        assert not any(piece in told for piece in ("ss@", "p#s", "/ss", "34@", "12/", "pä"))


@pytest.mark.parametrize(
    ("text", "shown", "target"),
    [
        ("rtsp://u:pa/ss@cam/x", "rtsp://***@cam/x", "rtsp://u:pa%2Fss@cam/x"),
        ("rtsp://u:p#a?s@cam:554/x?t=1", "rtsp://***@cam:554/x?***", "rtsp://u:p%23a%3Fs@cam:554/x?t=1"),
        ("rtsp://u:p@ss@cam/x", "rtsp://***@cam/x", "rtsp://u:p%40ss@cam/x"),
        ("rtsp://u:%40%2f@cam", "rtsp://***@cam", "rtsp://u:%40%2F@cam"),
        ("rtsp://u:100%@cam", "rtsp://***@cam", "rtsp://u:100%25@cam"),
        ("rtsp://cam/user=u&password=p&channel=1", "rtsp://cam/user=u&password=***&channel=1", "rtsp://cam/user=u&password=p&channel=1"),
        ("rtsp://cam/user=u_password=p_q.sdp?r", "rtsp://cam/user=u_password=***?***", "rtsp://cam/user=u_password=p_q.sdp?r"),
        ("http://cam/a@b.mp4", "http://cam/a@b.mp4", "http://cam/a@b.mp4"),
        ("https://[::1]:80/x", "https://[::1]:80/x", "https://[::1]:80/x"),
    ],
)  # fmt: skip
def test_signs_of_a_password_are_escaped_once(text: str, shown: str, target: str) -> None:
    address = Address.parse(text)
    assert address is not None
    assert (address.shown, address.target) == (shown, target)
    assert shown == target or target not in repr(address)


def test_a_missing_scheme_does_not_tell_the_password(shared_bundle: Path) -> None:
    for text in ("admin:secret@cam/live", "rtsp:/admin:secret@cam", "admin:secret@cam://x"):
        assert "secret" not in redacted(text)
        with pytest.raises(HedgeError) as caught:
            main(VideoConfig(text, shared_bundle))
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("way", ["environment", "file"])
def test_a_password_comes_from_the_environment_or_a_file(
    way: str, clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odd signs arrive as they are."""
    password, access = "p@/#%ä:", Access()
    if way == "environment":
        monkeypatch.setenv(PASSWORD_VARIABLE, password)
    else:
        (tmp_path / "secret").write_text(f"{password}\nsecond line")
        access = Access(password_of(tmp_path / "secret"))
    asked: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        login = request.headers.get("Authorization")
        asked.append(login)
        request.send_response(200 if login else 401)
        request.send_header("WWW-Authenticate", 'Basic realm="camera"')
        request.send_header("Content-Length", str(len(clip) if login else 0))
        request.end_headers()
        request.wfile.write(clip if login else b"")

    with serving(answer) as url:
        assert plays(url.replace("//", "//us er@") + "/a.ts", access)
    expected = base64.b64encode(f"us er:{password}".encode()).decode()
    assert asked[-1] == f"Basic {expected}"


@pytest.mark.parametrize("secret", ["pa/ss", "p#a?s", "p@ss", "p%ss", "pä ß"])
def test_a_camera_gets_a_password_of_odd_signs(secret: str) -> None:
    with RtspServer([rtsp_clip(24, 32)], login=f"me:{secret}") as server:
        assert plays(server.url(f"me:{secret}"))


def test_a_password_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path, tmp_path / "gone", tmp_path / "empty"):
        with pytest.raises(HedgeError, match=path.name):
            password_of(path)


def moved(to: str) -> Answer:
    """Redirect everything to an address."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", to)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def sending(clip: bytes, playlist: str = "") -> Answer:
    """Send a playlist for .m3u8, a redirect for /moved, else the clip."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path == "/moved":
            moved("/clip.ts")(request)
            return
        body = playlist.encode() if request.path.endswith(".m3u8") else clip
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def playlist(*segments: str) -> str:
    lines = "".join(f"#EXTINF:0.5,\n{segment}\n" for segment in segments)
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{lines}#EXT-X-ENDLIST\n"


def test_a_redirect_leads_on_on_its_host_and_no_further(clip: bytes) -> None:
    with serving(sending(clip)) as url:
        assert plays(f"{url}/moved")
        other = url.replace("127.0.0.1", "localhost")
        with serving(moved(f"{other}/clip.ts")) as door:
            with pytest.raises(HedgeError, match=r"another host, localhost; .*--allow-hosts"):
                plays(door)
            assert plays(door, Access(hosts=("localhost",)))


@pytest.mark.parametrize("to", ["https://127.0.0.1/x", "rtsp://127.0.0.1/x", "ftp://127.0.0.1/x"])
def test_a_redirect_to_another_scheme_is_refused(to: str) -> None:
    with serving(moved(to)) as door, pytest.raises(HedgeError, match=f"{to[:4]}.*another scheme"):
        plays(door)


def test_a_playlist_is_read_from_its_own_host_alone(clip: bytes) -> None:
    with serving(sending(clip, playlist("/a.ts", "b.ts"))) as url:
        assert plays(f"{url}/x.m3u8")
    with serving(sending(clip)) as url:
        other = url.replace("127.0.0.1", "localhost")
        with serving(sending(clip, playlist(f"{other}/a.ts"))) as door:
            with pytest.raises(HedgeError, match="another host, localhost"):
                plays(f"{door}/x.m3u8")
            assert plays(f"{door}/x.m3u8", Access(hosts=("localhost",)))


@pytest.mark.parametrize("segment", ["file:///etc/hostname", "https://127.0.0.1/a.ts"])
def test_a_playlist_that_leads_to_another_scheme_is_refused(segment: str, clip: bytes) -> None:
    with serving(sending(clip, playlist(segment))) as door, pytest.raises(HedgeError):
        plays(f"{door}/x.m3u8")


@pytest.fixture
def over_tls(clip: bytes, tmp_path: Path) -> Iterator[str]:
    """An https:// address whose certificate nobody has signed."""
    if not shutil.which("openssl"):
        pytest.skip("makes its certificate with openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    places = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names, *places], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    answer = sending(clip, playlist("a.ts"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that refuses the certificate is no fault."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["a.ts", "x.m3u8"])
def test_certificates_are_checked(
    name: str, over_tls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HedgeError, match=r"localhost.*--insecure"):
        plays(f"{over_tls}/{name}")
    assert plays(f"{over_tls}/{name}", Access(insecure=True))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert plays(f"{over_tls}/{name}")
    with pytest.raises(HedgeError):  # the certificate is of another name
        plays(f"{over_tls.replace('localhost', '127.0.0.1')}/{name}")
