"""Addresses as they may be shown: without passwords, and without queries, which may hold tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

_NAMED_PASSWORD = re.compile(r"(pass(?:word|wd)?|pwd|psw)=[^&]+", re.I)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.I)


def without_secrets(text: str) -> str:
    """``text`` of a library or of Python with every address in it as it may be shown."""
    return _ADDRESS.sub(lambda found: redacted(found[0]), text)


def command_line(words: Sequence[str]) -> list[str]:
    """The words of a command with its addresses as they may be shown, mistyped ones as well."""
    return [redacted(word) if "://" in word or "@" in word else word for word in words]


def redacted(text: str) -> str:
    """``text`` as it may be shown: without user, password, query and fragment.

    Whatever stands before the last @ may be a password with signs that end a host elsewhere, so
    all of it is hidden; but for paths, whose host is known. Of a path that names a password, as
    rtsp://camera/user=admin&password=secret&channel=1 of many cameras does, it is hidden.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme.isalpha():
        scheme, separator, rest = "", "", text
    login, place = login_of(rest)
    if not login and ":" in rest.partition("@")[0] and "@" in rest:
        login, place = "hidden", rest.rpartition("@")[2]
    place, query, _ = place.partition("?")
    place = _NAMED_PASSWORD.sub(r"\1=***", place.partition("#")[0])
    return f"{scheme.lower()}{separator}{'***@' if login else ''}{place}{'?***' if query else ''}"


def login_of(rest: str) -> tuple[str, str]:
    """The user and password of an address without its scheme, and what stands behind the @.

    By the standard they end where the host ends, at / ? or #; where what stands there is no host,
    such signs belong to a password that nobody has escaped.
    """
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in host:
        login, _, name = host.rpartition("@")
        return login, name + rest[len(host) :]
    if "@" in rest and not names_host(host):
        login, _, place = rest.rpartition("@")
        return login, place
    return "", rest


def names_host(place: str) -> bool:
    """Whether the place of an address begins with a host."""
    try:
        parts = urlsplit(f"//{place}")
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
