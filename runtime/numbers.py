"""What the fields of a configuration declare: ranges of numbers, paths, and several values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from runtime.errors import HedgeError

Threads = Annotated[int, msgspec.Meta(ge=0, le=1024)]  # 0: the library's choice
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]
Side = Annotated[int, msgspec.Meta(ge=32, le=16_384)]  # of an image or a network's input, in pixels
Tiles = Annotated[int, msgspec.Meta(ge=1, le=16)]  # along a side of a frame
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=1e9)]  # of a part of a sum
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
Points = Annotated[float, msgspec.Meta(ge=0, le=100)]  # of mIoU, in percent


def settle(config: object) -> None:
    """Make of text the path, and of a list or one value the tuple, that a field is declared to be.

    A command line gives the types that are declared; from Python people write ``data="camvid"`` and
    ``size=[360, 480]``. For a ``__post_init__``, frozen or not.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):  # type: ignore[arg-type]
        kinds, value = list(_kinds(hints[field.name])), getattr(config, field.name)
        if tuple in kinds and isinstance(value, list | str | Path):
            value = tuple(value) if isinstance(value, list) else (value,)
        if Path in kinds and isinstance(value, str):
            value = Path(value)
        elif Path in kinds and isinstance(value, tuple):
            value = tuple(map(Path, value))
        object.__setattr__(config, field.name, value)


def _kinds(hint: Any) -> Iterator[Any]:
    yield get_origin(hint) or hint
    for part in get_args(hint):
        yield from _kinds(part)


def check_numbers(config: object) -> None:
    """Raise HedgeError, with the option's name, for a number outside its field's ``msgspec.Meta``.

    NaN and infinity lie outside every range, and outside that of a field without one.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for field in fields(config):  # type: ignore[arg-type]
        range_ = next(_ranges(hints[field.name]), msgspec.Meta())
        for value in _numbers(getattr(config, field.name)):
            if not _within(value, range_):
                option = field.name.replace("_", "-")
                raise HedgeError(f"--{option} {value}: give a number{_told(range_)}")


def check_lists(config: type, words: Sequence[str]) -> None:
    """Raise HedgeError for an option of several values that a command line gives more than once.

    Of options of one value the last one holds, as everywhere; of these it would silently replace
    what others, such as Docker and curl, add up.
    """
    given = [word.partition("=")[0].replace("_", "-") for word in words]
    for option in _lists(config, "--"):
        if given.count(option) > 1:
            raise HedgeError(f"{option} is given more than once; name all of its values behind one")


def _lists(config: type, prefix: str) -> Iterator[str]:
    for name, hint in get_type_hints(config).items():
        if is_dataclass(hint):
            yield from _lists(hint, f"{prefix}{name.replace('_', '-')}.")  # type: ignore[arg-type]
        elif get_args(hint)[1:] == (...,):
            yield prefix + name.replace("_", "-")


def _ranges(hint: Any) -> Iterator[msgspec.Meta]:
    if get_origin(hint) is Annotated:
        yield from (extra for extra in hint.__metadata__ if isinstance(extra, msgspec.Meta))
    for part in get_args(hint):
        yield from _ranges(part)


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _numbers(part)


def _within(value: float, range_: msgspec.Meta) -> bool:
    return (
        math.isfinite(value)
        and (range_.ge is None or value >= range_.ge)
        and (range_.gt is None or value > range_.gt)
        and (range_.le is None or value <= range_.le)
        and (range_.lt is None or value < range_.lt)
    )


def _told(range_: msgspec.Meta) -> str:
    low = f" from {range_.ge}" if range_.ge is not None else ""
    low = f" above {range_.gt}" if range_.gt is not None else low
    high = f" to {range_.le}" if range_.le is not None else ""
    high = f" and below {range_.lt}" if range_.lt is not None else high
    return low + high or " that is finite"
