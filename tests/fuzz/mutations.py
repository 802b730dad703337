"""Hypothesis strategies for damage: to bytes of any format, and to JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

_LONGEST = 2000  # bytes that are copied or moved at once
_DEEP = "@deep"  # stands for what json.dumps cannot write: lists in lists, a hundred thousand deep


class Edit(NamedTuple):
    """One change to bytes: what is done, where, and a number that decides the rest."""

    what: str
    place: float  # share of the file
    number: int

    def apply(self, data: bytearray) -> None:
        _EDITS[self.what](data, int(self.place * len(data)), self.number)


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """``data`` after all of ``edits``."""
    changed = bytearray(data)
    for edit in edits:
        edit.apply(changed)
    return bytes(changed)


def only_cut(edits: list[Edit]) -> bool:
    """Whether nothing is changed but the end, which is missing."""
    return all(edit.what == "cut" for edit in edits)


def _flip(data: bytearray, at: int, number: int) -> None:
    if data:
        data[min(at, len(data) - 1)] ^= 1 << number % 8


def _noise(data: bytearray, at: int, number: int) -> None:
    rng = random.Random(number)
    for _ in range(number % 50):
        _flip(data, rng.randrange(len(data) + 1), rng.randrange(8))


def _cut(data: bytearray, at: int, number: int) -> None:
    del data[at:]


def _huge(data: bytearray, at: int, number: int) -> None:
    """The largest count that a field of 1, 2, 4 or 8 bytes can hold, with and without a sign."""
    width = (1, 2, 4, 8)[number % 4]
    sign = 0x7F if number % 3 == 0 else 0xFF
    data[at : at + width] = bytes([0xFF] * (width - 1) + [sign])[:: 1 if number % 2 else -1]


def _repeat(data: bytearray, at: int, number: int) -> None:
    """Half of it at most: a file behind itself is two recordings, of both of which all is shown."""
    data[at:at] = data[at : at + min(number % _LONGEST, len(data) // 2)]


def _move(data: bytearray, at: int, number: int) -> None:
    block = data[at : at + number % _LONGEST]
    del data[at : at + len(block)]
    data[number % (len(data) + 1) : 0] = block


def _zero(data: bytearray, at: int, number: int) -> None:
    width = min(number % _LONGEST, len(data) - at)
    data[at : at + width] = bytes(width)


_EDITS: dict[str, Callable[[bytearray, int, int], None]] = {
    "flip": _flip,
    "noise": _noise,
    "cut": _cut,
    "huge": _huge,
    "repeat": _repeat,
    "move": _move,
    "zero": _zero,
}


def _places() -> st.SearchStrategy[float]:
    """One of three in the first part, where headers are."""
    anywhere = st.integers(0, (1 << 20) - 1).map(lambda n: n / (1 << 20))
    return anywhere | anywhere | anywhere.map(lambda place: place / 16)


def edits() -> st.SearchStrategy[list[Edit]]:
    """One change in most cases, else up to four."""
    edit = st.builds(Edit, st.sampled_from(sorted(_EDITS)), _places(), st.integers(0, 1 << 16))
    single = edit.map(lambda one: [one])
    return single | single | st.lists(edit, min_size=2, max_size=4)


NAMES = (
    "", " ", ".", "..", "../../x", "a/b", "a\\b", "a\0b", "\x1b[31m", "[bold]", "x" * 300, "\ud800",
    "e\u0301", "\u202e", "-", "--force", "nul", "%s", "\ufeff", "a\nb", "😀",
)  # fmt: skip
INTEGERS = (0, 1, -1, 2, 3, 254, 255, 256, 2**31, 2**40, 2**63, 2**64, 10**400, -(2**63))
FLOATS = (0.0, -0.5, 0.5, 1e308, 1e-320, float("nan"), float("inf"))
_LEAVES = (
    st.none()
    | st.booleans()
    | st.sampled_from(INTEGERS)
    | st.sampled_from(FLOATS)
    | st.sampled_from(NAMES)
    | st.sampled_from(["y" * 1_000_000, _DEEP])
    | st.text(max_size=20)
)
VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
# Another value of the same type, which passes where only types are looked at.
_BENT: dict[type, Callable[[Any, int], Any]] = {
    str: lambda old, number: NAMES[number % len(NAMES)],
    int: lambda old, number: INTEGERS[number % len(INTEGERS)],
    float: lambda old, number: FLOATS[number % len(FLOATS)],
    bool: lambda old, number: not old,
    list: lambda old, number: (old * 2, old[:-1], old[::-1], old * 100)[number % 4],
    dict: lambda old, number: {},
    type(None): lambda old, number: NAMES[number % len(NAMES)],
}


class Change(NamedTuple):
    """One change to a tree of dicts and lists: of which node, what is done, and a value for it."""

    node: int
    what: str  # "bend", "replace", "drop", "rename", "add" or "double"
    value: Any

    def apply(self, tree: Any) -> Any:
        """``tree``, changed in place, or what stands for it."""
        places = _places_in(tree)
        if not places:
            return self.value
        parent, key = places[self.node // 7 % len(places)]
        if self.what == "bend":
            parent[key] = _BENT[type(parent[key])](parent[key], self.node)
        elif self.what == "replace":
            parent[key] = self.value
        elif self.what == "drop":
            del parent[key]
        elif isinstance(parent, list):
            parent.append(self.value if self.what == "add" else parent[key])
        elif self.what == "rename":
            parent[str(self.value)[:400]] = parent.pop(key)
        elif self.what == "add":
            parent[f"{key}_"] = self.value
        else:  # a key that occurs twice: no dict holds that, so "written" makes it one
            parent[f"{key}@double"] = self.value
        return tree


def _places_in(tree: Any) -> list[tuple[Any, Any]]:
    """(parent, key) of each node below the root."""
    keys = list(tree) if isinstance(tree, dict) else []
    keys = list(range(len(tree))) if isinstance(tree, list) else keys
    return [pair for key in keys for pair in ((tree, key), *_places_in(tree[key]))]


def changes() -> st.SearchStrategy[list[Change]]:
    """One change in most cases, else two or three."""
    kinds = st.sampled_from(["bend"] * 5 + ["replace", "drop", "rename", "add", "double"])
    change = st.builds(Change, st.integers(0, 1 << 16), kinds, VALUES)
    single = change.map(lambda one: [one])
    return single | single | st.lists(change, min_size=2, max_size=3)


def changed(tree: Any, changes: list[Change]) -> Any:
    """A copy of ``tree`` after all of ``changes``."""
    tree = json.loads(json.dumps(tree))
    for change in changes:
        tree = change.apply(tree)
    return tree


def written(tree: Any) -> bytes:
    """JSON of a changed tree, with its double keys and its depth."""
    text = json.dumps(tree).replace("@double", "")
    return text.replace(f'"{_DEEP}"', "[" * 100_000 + "]" * 100_000).encode()
