"""The numbers of a run in Prometheus's format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


def prometheus_text(state: dict[str, Any]) -> bytes:
    """A state of the stream in Prometheus's text format."""
    collectors = CollectorRegistry()
    collectors.register(_Metrics(state))
    return generate_latest(collectors)


class _Metrics(Collector):
    """What Prometheus is told of one state of the stream; what is not known is left out."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        report = self._state["report"]
        gaps = report["gaps"]
        values = {
            f"frames_{what}": (f"Frames {what} since the start", report[f"frames_{what}"])
            for what in ("read", "written", "dropped", "damaged")
        } | {
            "fps": ("Frames per second since the start", report["fps"]),
            "miou": ("Mean IoU so far, 0 to 1", report["miou"]),
            "gaps": ("Times without frames that were survived", gaps and gaps["count"]),
        }
        for name, (text, value) in values.items():
            if value is not None:
                yield GaugeMetricFamily(f"hedge_{name}", text, value)
        latency = GaugeMetricFamily(
            "hedge_latency_ms", "Milliseconds a frame", labels=["stage", "quantile"]
        )
        for stage, percentiles in report["latency_ms"].items():
            for name, value in percentiles.items():
                if value is not None:
                    latency.add_metric([stage, f"0.{name[1:]}"], value)
        yield latency
        share = GaugeMetricFamily("hedge_class_share", "Share of the picture", labels=["name"])
        if self._state["shares"]:
            for row, value in zip(self._state["classes"], self._state["shares"][-1], strict=True):
                share.add_metric([row["name"]], value)
        yield share
