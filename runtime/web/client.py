"""What an address on the web may lead to: its own scheme and host, with certificates checked."""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPMessage,
    HTTPResponse,
    HTTPSConnection,
)
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import (
    HTTPBasicAuthHandler,
    HTTPDigestAuthHandler,
    HTTPHandler,
    HTTPPasswordMgrWithPriorAuth,
    HTTPRedirectHandler,
    HTTPSHandler,
    Request,
    build_opener,
)

from runtime.errors import HedgeError
from runtime.interrupt import was_interrupted

_TIMEOUT_S = 5.0
_LARGEST = 1 << 28  # bytes of a playlist's file
_PATIENCE_S = 30.0  # with what comes slower than _SLOWEST: byte by byte, it would hold for ever
_SLOWEST = 4096  # bytes a second


@dataclass(frozen=True)
class Access:
    """What the user allows an address beyond what it says itself.

    password: for an address that names a user alone; insecure: take any certificate; hosts: others
    that redirects and playlists may lead to.
    """

    password: str = field(default="", repr=False)
    insecure: bool = False
    hosts: tuple[str, ...] = ()

    def tls_options(self) -> dict[str, str]:
        """FFmpeg's options for https:// and rtsps://."""
        if self.insecure:
            return {"tls_verify": "0"}
        found = ssl.get_default_verify_paths().cafile
        return {"tls_verify": "1", **({"ca_file": found} if found else {})}


class Web:
    """Opens what the playlist at ``url`` names, and follows its redirects, where both are allowed.

    url: with user and password, which only its own host is told.
    """

    def __init__(self, url: str, shown: str, access: Access) -> None:
        parts = urlsplit(url)
        self._shown, self._scheme = shown, parts.scheme
        self._hosts = {host.lower() for host in (parts.hostname or "", *access.hosts)}
        self._login = parts.netloc.rpartition("@")[0]
        self._own = parts.netloc.rpartition("@")[2]
        self._begun = self._refused = False
        context = ssl.create_default_context()
        if access.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        logins = HTTPPasswordMgrWithPriorAuth()
        if self._login:
            plain = f"{parts.scheme}://{self._own}/"
            logins.add_password(None, plain, parts.username or "", parts.password or "")
        self._opener = build_opener(
            _Http(),
            _Https(context),
            HTTPBasicAuthHandler(logins),
            HTTPDigestAuthHandler(logins),
            _Redirects(self),
        )

    def io_open(self, url: str, flags: int, options: Mapping[str, str]) -> _Body | io.BytesIO:
        """For PyAV: a file of the playlist, or the bytes of one that hold a segment.

        What does not come, once the playlist has, is empty: FFmpeg goes on with what is next.
        HedgeError where it may not be asked for, once.
        """
        if was_interrupted():
            return io.BytesIO()
        start, end = int(options.get("offset", 0)), int(options.get("end_offset", 0))
        part = {"Range": f"bytes={start}-{end - 1}"} if start < end else {}
        try:
            response = self._response(url, part)
            self._begun = True
            return _Body(response, start, end) if part else _Body(response)
        except HedgeError:
            if not self._refused:
                self._refused = True
                raise
        except OSError:
            if not self._begun:
                raise
        except KeyboardInterrupt:  # PyAV would print it; ``check_interrupt`` raises it again
            pass
        return io.BytesIO()

    def final(self, url: str) -> str:
        """Where the redirects of ``url`` lead, its login included where that is its own host."""
        with self._response(url) as response:
            found = urlsplit(response.geturl())
        if self._login and found.netloc == self._own:
            found = found._replace(netloc=f"{self._login}@{found.netloc}")
        return found.geturl()

    def check(self, url: str) -> None:
        """Raise HedgeError unless ``url`` has the address's scheme and an allowed host."""
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").lower()
        except ValueError:
            raise HedgeError(f"{self._shown}: leads to what is no address") from None
        if parts.scheme != self._scheme:
            raise HedgeError(f"{self._shown}: leads to {parts.scheme[:20]}://, another scheme")
        if host not in self._hosts:
            raise HedgeError(
                f"{self._shown}: leads to another host, {host[:100]}; if that is wanted: "
                f"--allow-hosts {host[:100]}"
            )

    def _response(self, url: str, headers: dict[str, str] | None = None) -> HTTPResponse:
        self.check(url)
        parts = urlsplit(url)
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        try:
            return self._opener.open(Request(plain, headers=headers or {}), timeout=_TIMEOUT_S)
        except HedgeError:
            raise
        except HTTPError as error:
            if place := error.headers.get("Location"):  # of a scheme that urllib does not follow
                self.check(urljoin(url, place))
            raise OSError(error.code, f"HTTP {error.code}") from None
        except URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise HedgeError(
                    f"{self._shown}: its certificate is not to be trusted "
                    f"({error.reason.verify_message}); --insecure takes it all the same"
                ) from None
            raise OSError(0, str(error.reason)) from None
        except (HTTPException, ValueError) as error:
            raise OSError(0, type(error).__name__) from None


class _Patient(HTTPConnection):
    """A connection that is ended where the head of an answer does not come: one byte at a time,
    each in time, it would come for ever."""

    def getresponse(self) -> HTTPResponse:
        ended = threading.Event()

        def end() -> None:
            ended.set()
            with suppress(OSError, AttributeError):  # closed by now
                self.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(_PATIENCE_S, end)
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()
        finally:
            timer.cancel()
        if ended.is_set():  # what had come by then looks like a whole head
            raise TimeoutError
        return response


class _PatientTls(_Patient, HTTPSConnection):
    pass


class _Http(HTTPHandler):
    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_Patient, req)


class _Https(HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._own = context

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_PatientTls, req, context=self._own)


class _Redirects(HTTPRedirectHandler):
    def __init__(self, web: Web) -> None:
        self._web = web

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        self._web.check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Body:
    """An answer to read from front to back, of a bounded length.

    start, end: the bytes that were asked for; a server may send the whole file all the same.
    """

    def __init__(self, response: HTTPResponse, start: int = 0, end: int = _LARGEST) -> None:
        self._response, self._left = response, min(end - start, _LARGEST)
        self._until = time.monotonic() + _PATIENCE_S
        passed = 0
        while passed < start and response.status != HTTPStatus.PARTIAL_CONTENT:
            if not (ahead := response.read(min(start - passed, 1 << 16))):
                break
            passed += len(ahead)

    def read(self, size: int) -> bytes:
        if time.monotonic() > self._until or was_interrupted():
            return b""
        try:
            data = self._response.read1(min(size, self._left))
        except (OSError, HTTPException, KeyboardInterrupt):  # what has come is played
            return b""
        self._left -= len(data)
        self._until += len(data) / _SLOWEST
        return data

    def close(self) -> None:
        self._response.close()
