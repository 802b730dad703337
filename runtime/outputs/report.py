"""The report of a run, and its table."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.table import Table

from runtime.accuracy.drift import DriftReport
from runtime.accuracy.metrics import Scores
from runtime.accuracy.streaming import Deadline
from runtime.outputs.alarms import Rings
from runtime.sources.live import Gaps

_LEAST_SURE = 3  # classes that the table names


@dataclass(frozen=True, kw_only=True)
class Report(Scores):
    """The final numbers, see docs/reference/json.md. Keys stay what they are; None, never NaN."""

    source: str
    decoder: str | None
    frames_expected: int | None
    frames_read: int
    frames_written: int
    frames_dropped: int
    frames_damaged: int
    frames_scored: int | None
    fps: float | None
    latency_ms: dict[str, dict[str, float | None]]
    gaps: Gaps | None
    deadline: Deadline | None
    videos: list[str]
    pictures: str | None
    confidence: dict[str, float | None] | None
    alarms: Rings | None
    drift: DriftReport | None
    miou_of_bundle: float | None
    miou_of_pytorch: float | None
    tiles: tuple[int, int] | None
    backend: str
    precision: str
    bundle: str
    machine: dict[str, str | int | None]


def table(report: Report, name: str) -> Table:
    """The report as one table for people; ``name`` is the model's."""
    whole = Table(title=name, box=box.ROUNDED, show_header=False, title_justify="left")
    whole.add_row(_latency_grid(report.latency_ms))
    whole.add_section()
    whole.add_row(_facts_grid(report))
    return whole


def _latency_grid(latency: dict[str, dict[str, float | None]]) -> Table:
    grid = Table(box=None, padding=(0, 2, 0, 0))
    grid.add_column("ms a frame", min_width=12)
    for name in ("p50", "p95", "p99"):
        grid.add_column(name, justify="right", min_width=8)
    for stage, times in latency.items():
        cells = ("–" if value is None else f"{value:.1f}" for value in times.values())
        grid.add_row(stage, *cells, style="bold" if stage == "total" else None)
    return grid


def _facts_grid(report: Report) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(min_width=12)
    grid.add_column(overflow="fold")
    counts = f"{report.frames_read} read, {report.frames_written} written"
    grid.add_row("frames", f"{counts}, {report.frames_dropped} dropped")
    fps = report.fps
    grid.add_row("fps", "–" if fps is None else f"{fps:.1f}")
    grid.add_row("mIoU", _miou_text(report))
    if (boundary := report.boundary_f) is not None:
        tolerance = report.boundary_tolerance_px
        grid.add_row("boundary F", f"{boundary:.1%} within {tolerance} pixels")
    if report.confidence is not None:
        grid.add_row("confidence", _confidence_text(report.confidence))
    if (live := report.deadline) is not None:
        grid.add_row("live", _live_text(live))
    if (drift := report.drift) is not None and drift.agreement is not None:
        grid.add_row("drift", _drift_text(drift))
    if (gaps := report.gaps) is not None:
        grid.add_row("gaps", f"{gaps.count}, {gaps.seconds:.1f} s in all")
    if report.alarms is not None:
        grid.add_row("alarms", f"{report.alarms.count} rang")
    decoded = "" if report.decoder in (None, "cpu") else f"; decoded by {report.decoder}"
    tiles = "" if report.tiles is None else "; {} × {} tiles".format(*report.tiles)
    grid.add_row("engine", f"{report.backend}, {report.precision}{tiles}{decoded}")
    grid.add_row("bundle", report.bundle)
    return grid


def _miou_text(report: Report) -> str:
    live, measured, scored = report.miou, report.miou_of_bundle, report.frames_scored
    text = "– (no labels given)" if scored is None else f"– ({scored} frames scored)"
    if live is not None:
        text = f"{live:.1%} over {scored} frames"
    if measured is not None:
        text += f"; {measured:.1%} in the bundle's manifest"
    trained = report.miou_of_pytorch
    return text if trained is None else f"{text}, {trained:.1%} in PyTorch"


def _confidence_text(confidence: dict[str, float | None]) -> str:
    known = sorted((value, name) for name, value in confidence.items() if value is not None)
    least = ", ".join(f"{name} {value:.1%}" for value, name in known[:_LEAST_SURE])
    return f"least sure of {least}" if known else "–"


def _live_text(live: Deadline) -> str:
    miou = "–" if live.miou is None else f"{live.miou:.1%}"
    return (
        f"mIoU {miou} after {live.deadline_ms:.0f} ms at {live.fps:g} fps; "
        f"{live.frames_late} frames late, {live.frames_dropped} of them dropped"
    )


def _drift_text(drift: DriftReport) -> str:
    text = f"{drift.agreement:.2%} of the pixels as {drift.reference}"
    if drift.worst:
        text += f", {drift.worst[0].agreement:.2%} in second {drift.worst[0].second}"
    if drift.flicker is None or drift.flicker_reference is None:
        return text
    return f"{text}; flicker {drift.flicker:.2%} against {drift.flicker_reference:.2%}"
