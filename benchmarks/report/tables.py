"""The tables of report.html: rows of texts, nothing of HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.report.charts import Row, heading
from benchmarks.report.columns import columns
from benchmarks.report.names import MISSING, Names, number, overheads, percent, proper, signed
from benchmarks.report.sentences import NOISE, broken
from benchmarks.results import Cell, Results
from benchmarks.stats.bootstrap import ratio

BARE = {
    "loop + tail": "the library and our label tail: the same answer, what our code costs",
    "whole graph": "labels made inside the library: the same answer, what our label tail gains",
    "loop": "the library alone: ends with scores, so it does less",
    "benchmark_app": "the library's own program: ends with scores, in rounds of its own",
    "trtexec": "the library's own program, in rounds of its own",
}  # the ways of benchmarks.cells.bare_library, equals first
DIGITS = 12  # of a sha256 that are shown; report.json has all


def cells(results: Results) -> Row:
    """The big table: columns that any cell fills, rows with notes and values to sort by."""
    names, found = Names(results), columns(results)
    shown = [column for column in found if any(map(column.text, results.cells))]
    rows = [
        heading(names, cell, _about(cell)) | {
            "cells": [
                {"text": c.text(cell), "note": c.note(cell), "value": c.value(cell)}
                for c in shown
            ],
        }
        for cell in results.cells
        if cell.kind != "bare" and not cell.error
    ]  # fmt: skip
    return {
        "heads": [(column.head, column.about) for column in shown],
        "rows": rows,
        "broken": broken(results),
        "unknown": [column.head for column in found if column not in shown],
    }


def _about(cell: Cell) -> str:
    """The arithmetic, where it is not the precision's own."""
    other = cell.kind == "bundle" and cell.computes and cell.computes != cell.precision
    return f"computes {proper(cell.computes)}" if other else ""


def overhead(results: Results) -> Row | None:
    """Our engine against the bare library, a column for each way that any of them was timed."""
    pairs = overheads(results)
    timed = {bare.way for _, bare in pairs}
    ways = [way for way in BARE if way in timed] + sorted(timed - BARE.keys())
    rows = {
        cell.name: heading(Names(results), cell) | {"ours": "", "ways": {}} for cell, _ in pairs
    }
    for cell, bare in pairs:
        assert cell.timing and bare.timing, "pairs are timed"
        found = ratio(cell.timing, bare.timing)
        low, high = (signed(100 * (end - 1)) for end in (found.low, found.high))
        row: dict[str, Any] = rows[cell.name]
        row["ours"] = number(cell.timing.p50)
        row["ways"][bare.way] = {
            "more": f"{signed(100 * (found.value - 1))} %",
            "note": NOISE if found.holds(1) else f"{low} to {high}",
            "ms": f"of {number(bare.timing.p50)} ms",
        }
    about = [(way, BARE.get(way, "")) for way in ways]
    return {"ways": about, "rows": list(rows.values())} if pairs else None


def arrivals(results: Results) -> list[Row]:
    """From arrival to labels at a fixed rate, and what was overtaken."""
    names = Names(results)
    return [
        heading(names, cell) | {
            "hz": f"{cell.arrival.hz:g}",
            "times": [number(t) for t in (cell.arrival.p50, cell.arrival.p95, cell.arrival.p99)],
            "dropped": percent(cell.arrival.dropped),
            "share": round(100 * cell.arrival.dropped, 1),
        }
        for cell in results.cells
        if cell.arrival
    ]  # fmt: skip


def tiles(cell: Cell | None) -> list[tuple[str, str | None, str]]:
    """Name, number and remark of what one asks first."""
    if cell is None or cell.timing is None:
        return []
    timing, accuracy = cell.timing, cell.accuracy
    streams = f"{number(cell.fps_in_flight)} with {cell.in_flight} in flight"
    return [
        ("a frame, median", number(timing.p50, " ms"),
         f"95 %: {number(timing.low)}–{number(timing.high)}"),
        ("slowest of a hundred", number(timing.p99, " ms"), "p99"),
        ("frames a second", number(cell.fps),
         streams if cell.fps_in_flight else "one at a time"),
        ("mIoU", percent(accuracy.miou) if accuracy else None,
         f"on {accuracy.frames} frames" if accuracy else ""),
        ("memory", number(cell.peak_mb, " MB"), "at its highest"),
        ("energy a frame", number(cell.joules, " J"), ""),
    ]  # fmt: skip


def facts(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of all that is known of a machine, versions by themselves."""
    found: list[tuple[str, str]] = []
    for name, value in machine.items():
        if isinstance(value, Mapping):
            found += [(proper(key), said(inner)) for key, inner in value.items()]
        else:
            words = name.removesuffix("_mb").replace("_", " ")
            found.append((proper(words) + ", MB" * name.endswith("_mb"), said(value)))
    return found


def said(value: object) -> str:
    """A fact in words."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return MISSING if value in (None, "") else str(value)


def passports(found: Mapping[str, Any]) -> Row | None:
    """A row for each bundle, a column for all that any of them tells; images by who shares them."""
    heads = list(dict.fromkeys(
        key for passport in found.values() for key in passport if key not in ("images", "agreement")
    ))  # fmt: skip
    images: dict[tuple[tuple[str, str], ...], list[str]] = {}
    rows = []
    for bundle, passport in found.items():
        shares = (passport.get("agreement") or {}).items()
        agreement = ", ".join(f"{name} {percent(share, 2)}" for name, share in shares)
        hashes = tuple((n, str(sha)[:DIGITS]) for n, sha in (passport.get("images") or {}).items())
        images.setdefault(hashes, []).append(bundle)
        known = [said(passport.get(head)) for head in heads]
        rows.append([bundle, str(len(hashes)), *known, said(agreement)])
    heads = ["images", *(head.replace("_", " ") for head in heads), "labels equal to FP32's"]
    lists = [(", ".join(bundles), hashes) for hashes, bundles in images.items() if hashes]
    return {"heads": heads, "rows": rows, "images": lists} if rows else None
