"""What ``python -m runtime.fleet`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import tyro

from runtime.numbers import Positive

Cores = Annotated[int, msgspec.Meta(ge=1, le=1024)]


@dataclass(frozen=True)
class FleetConfig:
    """Segment many videos on many machines, and report on all of them at once.

    Videos are cut at key frames into spans of a minute, and spans are handed to the workers of a
    Ray cluster, or of this machine alone. Each writes a file of its own, whole or not at all: the
    command may be killed at any time, and goes on with what is missing when it is started again.
    A span that fails three times is named, and the rest is done.

    Examples:

    hedge fleet 'drives/**/*.mp4' --bundle street19 --out results

    hedge fleet 'drives/**/*.mp4' --bundle bundles/a-int8 --reference bundles/a-fp32 --out results

    hedge fleet 's3://drives/*.mp4' --bundle street19 --out /mnt/results --address auto
    """

    videos: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="VIDEOS")]
    """Videos, or quoted patterns such as 'drives/**/*.mp4': paths that every machine has, or what
    fsspec opens (s3://, gs://, http://)."""
    out: Path
    """Folder of the results, which every machine writes into: frames.parquet, spans.parquet,
    report.html, and a file for each span."""
    bundle: str | None = None
    """Folder of the bundle, an address of one, or street19, the shipped model. Default: the newest
    bundle under bundles/, else the shipped model."""
    address: str | None = None
    """Of a Ray cluster; auto: the one that this machine belongs to. Default: this machine alone."""
    span: Positive = 60.0
    """Seconds of video at least that a worker does at once: the next key frame ends them."""
    cores: Cores = 4
    """CPU cores of each worker, on machines without a GPU."""
    backend: str = "auto"
    """tensorrt, tensorrt_rtx, openvino, onnxruntime; auto: the fastest on each machine."""
    device: str = ""
    """What computes, as of hedge video."""
    labels: Path | None = None
    """Folder of true labels, with a folder for each video in it: a/000000.png is of a.mp4."""
    reference: str | None = None
    """A second bundle on the same frames: how often both agree and how much each flickers."""
    save_labels: bool = False
    """Also write the labels of each video, as a video without loss: out/labels/NAME.mkv."""
    json: Path | None = None
    """File for the final report."""
