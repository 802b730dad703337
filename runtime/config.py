"""What ``python -m runtime.video`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
import tyro

from runtime.errors import HedgeError
from runtime.files import STDOUT
from runtime.numbers import Count, Positive, Ratio, Side, Threads, Tiles, check_numbers
from runtime.outputs.alarms import Alarm, Zone
from runtime.outputs.overlay import Look, Style
from runtime.outputs.window import require_window
from runtime.sources.hardware.decoder import Decode
from runtime.sources.open import PIPE


@dataclass(frozen=True)
class VideoConfig:
    """Segment a video, images or a camera, and report speed and accuracy of the same run.

    The model comes as a bundle (made by python -m export), which knows its classes, its precision
    and its size: there is nothing to set. Of files every frame is processed, none is dropped. Of
    cameras and addresses the newest frame is next, whatever came before is dropped and counted,
    and a connection that is lost is opened again. At the end, or after Ctrl-C, a table shows
    milliseconds for each stage, frames per second and, with --labels, the mIoU.

    Examples:

    python -m runtime.video drive.mp4 --out overlay.mp4

    python -m runtime.video photo.jpg

    python -m runtime.video rtsp://user@camera/live --password-file secret --out overlay.mp4

    python -m runtime.video left.mp4 right.mp4 --out overlay.mp4

    python -m runtime.video data/images/val --labels data/labels/val --json report.json

    python -m runtime.video data/images/val --labels data/labels/val --fps 30

    python -m runtime.video drive.mp4 --bundle bundles/a-int8 --reference bundles/a-fp32
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """A video file, a folder of images, one image, a quoted pattern such as 'val/**/*.png', a
    camera (0, /dev/video0), an address (rtsp://, http://, https://), or - for raw frames."""
    bundle: Path | None = None
    """Folder of the bundle, or street19, the shipped model. Default: the newest bundle under
    bundles/, else the shipped model. Frames go through it in batches of the size it was exported
    for (python -m export --batch)."""
    backend: str = "auto"
    """tensorrt, tensorrt_rtx, openvino, onnxruntime; auto: the fastest here, measured once."""
    device: str = ""
    """What computes: CPU, GPU, NPU or AUTO of OpenVINO, or a provider of ONNX Runtime (CUDA,
    TensorRT, DirectML, CoreML, QNN, …). Default: the CPU, and the GPU of TensorRT's engines."""
    threads: Threads = 0
    """CPU threads of the engine; 0 leaves the choice to the library."""
    in_flight: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """Frames the engine works on at once: of files, 2 or more give more frames per second in
    OpenVINO and TensorRT for more milliseconds a frame."""
    tiles: Annotated[tuple[Tiles, Tiles] | None, tyro.conf.arg(metavar="ROWS COLUMNS")] = None
    """Cut frames into overlapping tiles of the bundle's frame size, for frames that are larger than
    that: each is segmented, their scores are blended. Takes a tile's time for each."""
    decode: Decode = "cpu"
    """What decodes videos: the CPU, NVIDIA's cuda, Intel's qsv, vaapi, videotoolbox, or auto: the
    first of them that opens here and gives the CPU's pixels on the first frame."""
    realtime: bool = False
    """Play files at their own rate, and drop what the engine is too slow for, as of a camera."""
    raw_size: tuple[Side, Side] | None = None
    """HEIGHT WIDTH of the uint8 BGR frames on standard input."""
    out: Path | None = None
    """Video to write (.mp4, .mov or .mkv): the frames with the classes laid over them. Of photos
    also a picture (.png), or a folder for one each, which is what they get in the current folder
    where nothing else is asked for: photo.jpg gives photo-segmented.png."""
    labels: Path | None = None
    """Folder of true labels, found by the frame's name (000000.png for a video's first frame)."""
    boundaries: bool = False
    """With --labels: also the F-measure of the boundaries between classes, at 3 pixels. It takes
    its own time beside the stream."""
    fps: Positive | None = None
    """With --labels: also score as if frames arrived at this rate and nobody waited, a late frame
    by the mask that was there. Default with --deadline: the video's own rate."""
    deadline: Positive | None = None
    """With --labels: milliseconds after a frame's arrival at which its mask is needed. Default with
    --fps: when the next frame arrives."""
    reference: Path | None = None
    """A second bundle on the same frames: how often both agree and how much each flickers, which
    needs no labels. It takes its own time beside the stream."""
    worst: Path | None = None
    """With --reference: folder for pictures of the seconds in which the two differ most."""
    save_labels: Path | None = None
    """Folder for one palette PNG a frame; its pixel values are the class ids."""
    json: Path | None = None
    """File for the final report; - for standard output, where the table is then not."""
    metrics: Path | None = None
    """File for one JSON line a frame: times, and the mIoU so far; - for standard output."""
    shares: Path | None = None
    """CSV to write: which share of each frame every class has."""
    annotations: Path | None = None
    """File of outlines to correct in a labelling tool: COCO (.json) or CVAT XML 1.1 (.xml)."""
    confidence: bool = False
    """Tell how sure the model is of each class (the mean of the softmax's maximum), in the table
    and in --json. It takes its own time beside the stream."""
    unknown: Ratio | None = None
    """Confidence below which a pixel is of no class: gray in pictures, 255 in saved labels, a
    column of its own in --shares. The mIoU is of the model's own answers."""
    zone: tuple[str, ...] = ()
    """Parts of the frame for --alarm, as in lane=0.3,1,0.45,0.6,0.55,0.6,0.7,1: a name, and the
    corners' x and y in 0..1 of the frame's width and height. Outlined in pictures."""
    alarm: tuple[str, ...] = ()
    """Rules on the share of a class, one or more, as in "road < 0.3 for 2 s" (in every --zone, or
    the frame) or "car in lane > 0.05". One that holds that long is told at once, in --metrics and
    --json, and ends the command with code 6."""
    show: bool = False
    """Show the frames with the classes laid over them in a window; q, Escape or its button ends the
    run. Needs the package opencv-python in the place of opencv-python-headless."""
    serve: Annotated[int, msgspec.Meta(ge=0, le=65_535)] | None = None
    """Port of a page to watch on, http://127.0.0.1:PORT: the overlay, latency, drops, classes and
    the bundle's passport; /metrics is for Prometheus. 0 takes a free port."""
    serve_host: str = "127.0.0.1"
    """Address to serve on; for others to reach it, set HEDGE_TOKEN in the environment."""
    password_file: Path | None = None
    """File whose first line is the password of addresses that name a user alone, as in
    rtsp://user@camera/live. Or set HEDGE_SOURCE_PASSWORD in the environment: a command line is seen
    by every user of the machine."""
    insecure: bool = False
    """Take any certificate of https:// and rtsps:// addresses; by default they are checked."""
    allow_hosts: tuple[str, ...] = ()
    """Other hosts that an address may lead to, by a redirect or a playlist."""
    max_frames: Count | None = None
    """Stop after this many frames."""
    overlay: bool = True
    """Show the frames under the colours in --out; without it, the plain class colours."""
    style: Style = "fill"
    """Of the overlay: classes filled with their colours, or their outlines alone."""
    opacity: Ratio | None = None
    """Of the overlay's colours, 0 to 1. Default: of fill from 0.7 for classes that fill little of
    the picture to 0.35 for those that fill much, 1 of outline."""
    only: str | None = None
    """Classes that the overlay shows, as in road,car. Default: all."""
    force: bool = False
    """Overwrite outputs that exist."""
    more: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[SOURCE ...]")
    ] = ()
    """More sources, at the same time through the same engine. Each has its own outputs, with its
    number in their names: overlay-1.mp4, overlay-2.mp4."""

    @property
    def clocked(self) -> bool:
        """Whether to score late frames as well."""
        return self.fps is not None or self.deadline is not None

    @property
    def look(self) -> Look:
        """How classes are drawn."""
        names = () if self.only is None else tuple(self.only.split(","))
        return Look(self.style, self.opacity, names)

    @property
    def zones(self) -> list[Zone]:
        """The parts of the frame that have names."""
        return [Zone.parse(text) for text in self.zone]

    @property
    def alarms(self) -> list[Alarm]:
        """The rules on classes' shares."""
        return [Alarm.parse(text) for text in self.alarm]

    @property
    def asks_nothing(self) -> bool:
        """Whether neither an output nor a comparison is asked for."""
        wanted = (
            self.out, self.save_labels, self.json, self.metrics, self.shares, self.annotations
        )  # fmt: skip
        compared = (self.labels, self.reference, self.serve, self.show or None)
        return all(option is None for option in (*wanted, *compared))

    def parts(self) -> list[VideoConfig]:
        """One configuration for each source; of several, with numbered outputs."""
        if not self.more:
            return [self]
        parts = []
        for number, source in enumerate((self.source, *self.more), 1):
            own = replace(self, source=source, more=())
            for name in ("out", "save_labels", "json", "metrics", "shares", "annotations"):
                path = getattr(self, name)
                if path == STDOUT:
                    raise HedgeError(f"--{name} -: each source has its own; give a file")
                if path is not None:
                    numbered = path.with_name(f"{path.stem}-{number}{path.suffix}")
                    own = replace(own, **{name: numbered})
            parts.append(own)
        return parts

    def validate(self) -> None:
        """Raise HedgeError for numbers and options that mean nothing together."""
        check_numbers(self)
        names = [zone.name for zone in self.zones]
        if len(set(names)) < len(names):
            raise HedgeError("--zone: two zones share a name; give each its own")
        if names and not self.alarms:
            raise HedgeError("--zone is what --alarm watches; give --alarm as well")
        if self.more and (self.serve is not None or self.show or self.reference is not None):
            raise HedgeError("--serve, --show and --reference take one source; give one")
        if self.show:
            require_window()
        if self.more and PIPE in (self.source, *self.more):
            raise HedgeError("standard input (-) is read alone; give it no other source")
        if self.in_flight > 1 and self.clocked:
            raise HedgeError(
                "--fps and --deadline count milliseconds of one frame at a time; leave --in-flight"
            )
        if not self.overlay and (self.style != "fill" or self.opacity is not None):
            raise HedgeError("--style and --opacity are the overlay's; leave --no-overlay")
        if self.worst is not None and self.reference is None:
            raise HedgeError("--worst shows where two bundles differ; give --reference as well")
        if self.boundaries and self.labels is None:
            raise HedgeError("--boundaries compares with labels; give --labels as well")
        if self.clocked and self.labels is None:
            raise HedgeError(
                "--fps and --deadline score late frames against labels; give --labels as well"
            )
