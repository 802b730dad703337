"""Configurations that are written in Python hold what their fields are declared to hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export.config import Export


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("data", "camvid", Path("camvid")),
        ("size", [360, 480], (360, 480)),
        ("classes", "classes.json", ("classes.json",)),
        ("classes", ["road", "car"], ("road", "car")),
        ("output", "out", "out"),
        ("golden", "drawn", "drawn"),
        ("run", None, None),
    ],
)
def test_text_is_a_path_and_a_list_a_tuple_where_those_are_declared(
    name: str, given: Any, taken: object
) -> None:
    assert getattr(Export(**{name: given}), name) == taken
