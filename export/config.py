"""What ``python -m export`` can be asked; needs none of the heavy libraries."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import tyro

from runtime.bundle.manifest import BUNDLES, Precision
from runtime.errors import HedgeError
from runtime.fleet.config import Cores
from runtime.numbers import Count, Points, Side, check_numbers, settle

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
# What can be asked of a bundle, and where from and to.
_OF_BUNDLES = {"engine", "target", "workspace", "optimization_level", "max_batch"}
_OF_BUNDLES |= {"triton", "deepstream", "run", "out", "force"}


@dataclass(frozen=True)
class Export:
    """Turn a trained model into bundles: one ONNX graph from camera frame to labels, verified.

    Each bundle is checked on labelled frames against PyTorch, in every engine installed here, and
    carries the mIoU and the latency measured on them. A bundle that loses too much is not
    published.

    Examples:

    python -m export runs/dlse_hed-mobilenet_v2 --int8 --max-miou-drop 0.5

    python -m export --fp16 --frame-size 720 1280

    python -m export model.onnx --classes road car sky --mean 0.485 0.456 0.406 --std 0.229 0.224 \
0.225

    python -m export bundles/dlse_hed-mobilenet_v2-int8 --engine tensorrt_rtx --target sm86,sm89

    python -m export bundles/dlse_hed-mobilenet_v2-int8 --triton repository

    python -m export bundles/dlse_hed-mobilenet_v2-fp16 --deepstream deepstream/streets
    """

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder or checkpoint file. Default: the newest run. Or an ONNX file of any other
    training: from float32 images (N, 3, H, W) to scores, of any stride, or to labels. With
    --engine, --triton or --deepstream also a bundle, from which nothing is exported anew; by
    default the newest, where no option tells how to export."""
    classes: tuple[str, ...] = ()
    """ONNX file: the names of its classes in its own order, or a classes.json. Default: those of
    --data, else numbers."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """ONNX file: what is subtracted from red, green and blue in 0..1 (ImageNet: 0.485 0.456
    0.406)."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """ONNX file: what they are divided by (ImageNet: 0.229 0.224 0.225; 0.00392157 thrice for a
    network that takes 0..255)."""
    bgr: bool = False
    """ONNX file: it takes blue first; mean and std stay in the order red, green, blue."""
    output: str | None = None
    """ONNX file: which of several outputs are the scores or labels."""
    fp32: bool = False
    """Write an FP32 bundle (the default when no precision is named)."""
    fp16: bool = False
    """Write an FP16 bundle: half the size; engines compute it in FP16 or bf16."""
    int8: bool = False
    """Write an INT8 bundle: a quarter of the size, calibrated on the training images."""
    best: bool = False
    """Write all three, time them here in every engine, and publish the fastest as NAME-best."""
    size: tuple[Side, Side] | None = None
    """Network input H W. Default: the size the model was validated at."""
    frame_size: tuple[Side, Side] | None = None
    """Camera frame H W; the graph then resizes it itself. Default: the same as size."""
    batch: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    """Frames an engine takes at once."""
    data: Path | None = None
    """Labelled data: train split to calibrate with, val split to verify on. Default: what the
    model was trained on; where that is not on this machine, drawn streets to verify on, which
    show parity but no mIoU."""
    frames: Count = 128
    """Verify on at most this many frames, evenly spaced over the split."""
    golden: Literal["data", "drawn"] = "data"
    """What the bundle's golden frames show, by which each machine checks its engines: three of the
    frames verified on, at 256 pixels, or drawn streets, for bundles handed on whose data may not
    be. Of a network that knows no drawn streets those prove less."""
    calibration: Count = 128
    """INT8: calibrate with this many images, chosen so that every class is seen."""
    calibration_data: Path | None = None
    """INT8: a folder of images to calibrate with, instead of the data set's training split. Or
    another data set, which is verified on as well where the network's own is not on this machine.
    """
    calibration_method: Literal["auto", "minmax", "entropy", "percentile"] = "auto"
    """INT8: how ranges are cut. auto: whichever keeps most labels of the calibration images."""
    fleet: Path | None = None
    """INT8: calibrate in parts, on the workers of a Ray cluster or of this machine: a folder that
    every machine writes their histograms into. It may be killed, and goes on with what has no file
    yet."""
    address: str | None = None
    """With --fleet: the Ray cluster; auto: the one this machine belongs to. Default: this machine
    alone."""
    cores: Cores = 4
    """With --fleet: CPU cores of each worker."""
    scales: Path | None = None
    """INT8: take the ranges from the scales.json of an earlier export of the same model."""
    keep: tuple[str, ...] = ()
    """INT8: layers to leave in floating point, by their names in the graph."""
    max_miou_drop: Points | None = None
    """INT8: lose at most this many points of mIoU; where plain INT8 loses more, layers to leave in
    floating point are searched. Default, on labelled frames: 0.5, and 2 of a class; plain INT8
    that loses over 3 is an error then. FP16 in an engine that computes bf16 for it (OpenVINO, on
    CPUs that have it): what it may lose; default 0.5."""
    max_class_drop: Points | None = None
    """The same for the IoU of the class that loses most."""
    backend: str = "auto"
    """The engine whose time the search weighs. Default: the fastest in plain INT8."""
    engine: Literal["tensorrt", "tensorrt_rtx"] | None = None
    """Build an engine from the bundle's graph now instead of at its first start."""
    target: str | None = None
    """With tensorrt_rtx: compute capabilities to build for, as in sm86,sm89,sm120."""
    workspace: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 2048
    """With --engine: MiB of scratch memory that a kernel may ask for."""
    optimization_level: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    """With --engine: 0 (built fast) to 5 (runs fast). Default: the library's."""
    max_batch: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None
    """With --engine: take any number of frames from 1 to this, as servers want that gather
    requests. Default: the bundle's own number, and no other."""
    triton: Path | None = None
    """Write models for Triton Inference Server into this repository: one for its ONNX Runtime
    backend, one for OpenVINO, and one for TensorRT where the bundle has an engine of it."""
    deepstream: Path | None = None
    """Write a model for NVIDIA DeepStream into this folder: a graph that Gst-nvinfer runs, its
    settings (network-type=2) and the class names. Its class map has half the network's size."""
    name: str | None = None
    """Name of the bundles; the precision is appended. Default: that of the run, or of a file that
    is not called best.pt."""
    out: Path = BUNDLES
    """Folder of the bundles."""
    force: bool = False
    """Replace bundles, and models for Triton and DeepStream, that exist."""

    def __post_init__(self) -> None:
        settle(self)
        check_numbers(self)
        if self.target and self.engine != "tensorrt_rtx":
            raise HedgeError("--target is for --engine tensorrt_rtx, which can build for others")
        if self.max_batch is not None and not self.engine:
            raise HedgeError("--max-batch is for --engine")
        if self.deepstream and len(self.precisions()) > 1 and not self.best:
            raise HedgeError("--deepstream: a folder for one precision; name one, or --best")
        if self.fleet and (self.scales or not (self.int8 or self.best)):
            raise HedgeError("--fleet is for --int8 that calibrates, without --scales")
        if abs(most := max(self.mean, key=abs)) > 1:
            raise HedgeError(
                f"--mean {most:g}: of colours in 0..1; divide by 255 what is told of 0..255, as "
                "MMSegmentation and Detectron2 do, and --std as well"
            )
        if min(self.std) <= 0:
            raise HedgeError(f"--std {min(self.std)}: give numbers above 0")

    def of_others(self) -> list[str]:
        """The options given that are for networks of other trainings alone."""
        options = ("classes", "mean", "std", "bgr", "output")
        return [name for name in options if getattr(self, name) != getattr(Export, name)]

    def of_exporting(self) -> list[str]:
        """The options given that say how to export, which of a bundle is settled."""
        names = [row.name for row in fields(self) if row.name not in _OF_BUNDLES]
        return [name for name in names if getattr(self, name) != getattr(Export, name)]

    def precisions(self) -> list[Precision]:
        """What to write; FP32 when nothing was named."""
        return [name for name in PRECISIONS if self.best or getattr(self, name)] or ["fp32"]
