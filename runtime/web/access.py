"""Who may see the page: the host check and the token."""

from __future__ import annotations

import hmac
import ipaddress
import os
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.errors import HedgeError

TOKEN_VARIABLE = "HEDGE_TOKEN"  # in the environment: a command line is seen by every user

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; connect-src 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses foreign Host headers (DNS rebinding), and who does not have the token."""

    def __init__(self, app: ASGIApp, token: str | None, local: bool) -> None:
        self._app, self._token, self._local = app, token, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it: another method, an unknown host, no token."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        if refusal := self._refusal(request):
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if request.method != "GET":
            return PlainTextResponse("GET only", 405, headers={**HEADERS, "Allow": "GET"})
        if self._local and not _is_loopback(_host(request) or ""):
            return PlainTextResponse("unknown host", 400, headers=HEADERS)
        given = request.query_params.get("token", "")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._token is not None and not any(
            hmac.compare_digest(self._token.encode(), text.encode()) for text in (given, bearer)
        ):
            return PlainTextResponse("the address needs its ?token=", 401, headers=HEADERS)
        return None


def _host(request: Request) -> str | None:
    """The name in the Host header; Starlette's own puts the server's where there is none."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    """Whether it leads to this machine alone, whatever a DNS says."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def token_for(host: str) -> str | None:
    """The secret that pages on ``host`` need; None on the loopback. HedgeError without one."""
    if _is_loopback(host):
        return None
    if _address(host) is None:
        raise HedgeError(f"--serve-host {host}: give an IP address of this machine")
    token = os.environ.get(TOKEN_VARIABLE, "")
    if len(token) < 8:
        raise HedgeError(
            f"--serve-host {host}: others can reach it; set {TOKEN_VARIABLE} to a secret of 8 "
            f"characters or more: export {TOKEN_VARIABLE}=$(openssl rand -hex 16)"
        )
    return token
