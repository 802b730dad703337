"""The numbers of a run in Prometheus's format."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from runtime.outputs.report import Report


def prometheus_text(report: Report, shares: Mapping[str, float]) -> bytes:
    """The numbers of a stream, and the latest share of each class; what is not known is left out.

    shares: 0..1 by class name.
    """
    gauges, gaps = CollectorRegistry(), report.gaps

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"hedge_{name}", text, labels, "", "", "", gauges)

    values = {
        "frames_read": ("Frames read since the start", report.frames_read),
        "frames_written": ("Frames written since the start", report.frames_written),
        "frames_dropped": ("Frames dropped since the start", report.frames_dropped),
        "frames_damaged": ("Frames damaged since the start", report.frames_damaged),
        "fps": ("Frames per second since the start", report.fps),
        "miou": ("Mean IoU so far, 0 to 1", report.miou),
        "gaps": ("Times without frames that were survived", None if gaps is None else gaps.count),
    }
    for name, (text, value) in values.items():
        if value is not None:
            gauge(name, text).set(value)
    latency = gauge("latency_ms", "Milliseconds a frame", "stage", "quantile")
    for stage, percentiles in report.latency_ms.items():
        for name, value in percentiles.items():
            if value is not None:
                latency.labels(stage, f"0.{name[1:]}").set(value)
    share = gauge("class_share", "Share of the picture", "name")
    for name, value in shares.items():
        share.labels(name).set(value)
    return generate_latest(gauges)
