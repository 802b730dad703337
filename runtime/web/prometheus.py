"""The numbers of a run in Prometheus's format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from runtime.outputs.report import Report


def prometheus_text(report: Report, shares: Mapping[str, float]) -> bytes:
    """The numbers of a stream, and the latest share of each class, as Prometheus reads them."""
    collectors = CollectorRegistry()
    collectors.register(_Metrics(report, shares))
    return generate_latest(collectors)


class _Metrics(Collector):
    """What Prometheus is told of one state of the stream; what is not known is left out."""

    def __init__(self, report: Report, shares: Mapping[str, float]) -> None:
        self._report, self._shares = report, shares

    def collect(self) -> Iterator[Metric]:
        report, gaps = self._report, self._report.gaps
        values = {
            "frames_read": ("Frames read since the start", report.frames_read),
            "frames_written": ("Frames written since the start", report.frames_written),
            "frames_dropped": ("Frames dropped since the start", report.frames_dropped),
            "frames_damaged": ("Frames damaged since the start", report.frames_damaged),
            "fps": ("Frames per second since the start", report.fps),
            "miou": ("Mean IoU so far, 0 to 1", report.miou),
            "gaps": (
                "Times without frames that were survived",
                None if gaps is None else gaps.count,
            ),
        }
        for name, (text, value) in values.items():
            if value is not None:
                yield GaugeMetricFamily(f"hedge_{name}", text, value)
        latency = GaugeMetricFamily(
            "hedge_latency_ms", "Milliseconds a frame", labels=["stage", "quantile"]
        )
        for stage, percentiles in report.latency_ms.items():
            for name, value in percentiles.items():
                if value is not None:
                    latency.add_metric([stage, f"0.{name[1:]}"], value)
        yield latency
        share = GaugeMetricFamily("hedge_class_share", "Share of the picture", labels=["name"])
        for name, value in self._shares.items():
            share.add_metric([name], value)
        yield share
