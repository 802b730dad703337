"""What export measured of a bundle, as a record in which keys of other versions survive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Text = Annotated[str, Meta(max_length=1000)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
ByName = dict[Text, Share | None]  # None, never NaN, where there is no label or no pixel


class Int8(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which of a graph's layers stay in floating point, and what a search for them was held to.

    layers: of the graph; budget: points that may be lost, as ``export.verify.Budget``; backend: the
    engine that was timed; search: the bundle's file with all that it tried, None without one.
    """

    layers: Count
    kept: tuple[Text, ...]
    budget: dict[Text, float | None] | None = None
    backend: Text | None = None
    search: Text | None = None


class Fastest(Struct, frozen=True, kw_only=True):
    """Why ``--best`` chose this bundle; ms: median of a frame by engine and precision."""

    backend: Text
    precision: Text
    ms: dict[Text, float]
    cpu: Text


class Measured(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """On ``images`` frames of ``data``, all accuracies in 0..1.

    miou, iou: of the first engine; None where the frames have no labels; miou_pytorch, iou_pytorch:
    of the trained model, as ``reference`` runs it; agreement: share of pixels with its label;
    computes: the arithmetic of each engine; latency_ms: p50, p95 and p99 by engine, PyTorch
    included; multiply_adds: of a frame; arithmetic: those of a batch of an INT8 bundle, by engine
    and by the arithmetic that it computes them in, by its own word; worst_frame: name and
    agreement. foreign: what the file has beyond this, key by key.
    """

    data: Text = ""
    split: Text = ""
    images: Count = 0
    reference: Text = "PyTorch"
    miou: Share | UnsetType | None = UNSET
    iou: ByName = {}
    miou_pytorch: Share | UnsetType | None = UNSET
    iou_pytorch: ByName = {}
    miou_by_backend: ByName = {}
    iou_by_backend: dict[Text, ByName] = {}
    latency_ms: dict[Text, dict[Text, float | None]] = {}
    agreement: ByName = {}
    computes: dict[Text, Text] = {}
    worst_frame: dict[Text, tuple[Text, Share | None]] = {}
    multiply_adds: Count | None = None
    arithmetic: dict[Text, dict[Text, Count]] = {}
    int8: Int8 | None = None
    fastest: Fastest | None = None
    foreign: dict[str, Any] = {}

    def miou_in(self, backend: str) -> float | None:
        """What was measured in this engine, or in the first there was."""
        own = self.miou_by_backend.get(backend)
        return known(self.miou) if own is None else own

    def read_from(self, content: dict[str, Any]) -> Measured:
        """The same record with what else is in ``content``, the JSON object it was made of."""
        own = msgspec.structs.replace(self, foreign={})
        return msgspec.structs.replace(own, foreign=_beyond(content, own.to_json()))

    def to_json(self) -> dict[str, Any]:
        """The JSON object, keys sorted."""
        own = msgspec.to_builtins(msgspec.structs.replace(self, foreign={}))
        whole = msgspec.json.encode(_joined(self.foreign, own), order="deterministic")
        return msgspec.json.decode(whole)


def int8_share(multiply_adds: Mapping[str, int]) -> float | None:
    """The share in INT8 of counts by arithmetic, None where there are none."""
    total = sum(multiply_adds.values())
    return multiply_adds.get("int8", 0) / total if total else None


def known(value: float | UnsetType | None) -> float | None:
    """The number, None where there is none."""
    return None if isinstance(value, UnsetType) else value


def _beyond(content: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """What ``content`` has and ``known`` lacks, objects within objects included."""
    rest = {key: value for key, value in content.items() if key not in known}
    for key in content.keys() & known.keys():
        if isinstance(content[key], dict) and (inner := _beyond(content[key], known[key])):
            rest[key] = inner
    return rest


def _joined(foreign: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """``known`` with what only ``foreign`` has."""
    both = foreign.keys() & known.keys()
    inner = {k: _joined(foreign[k], known[k]) for k in both if isinstance(known[k], dict)}
    return foreign | known | inner
