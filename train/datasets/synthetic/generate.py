"""Street scenes with exact labels: a data set in the folder layout, and a drive at 30 frames/s.

Each still is of a street of its own; the drive is one more street, with a label image a frame. The
same arguments give the same files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image
from tyro.conf import Positional

from runtime import cli
from runtime.errors import HedgeError, OutputError
from runtime.files import atomic_path, temporary_folder
from runtime.numbers import Seed, check_numbers
from train.datasets.synthetic.camera import SUPERSAMPLING, Camera
from train.datasets.synthetic.street import LANE_M, Street, build
from train.datasets.synthetic.things import CLASSES

FPS = 30
_SPEED_M_S = 8.5  # slower than the car ahead, so that it is never run into
_DRIVE = 2  # the random stream of the drive; 0 and 1 are those of train and val


@dataclass(frozen=True)
class SyntheticConfig:
    """Generate street scenes with exact labels: a small data set, and a video if asked for."""

    out: Positional[Path]
    """Folder of the data set; must not exist yet."""
    train: int = 64
    """Images to train on."""
    val: int = 16
    """Images to validate on."""
    size: tuple[int, int] = (192, 384)
    """Height and width in pixels, even numbers."""
    seed: Seed = 0
    """Another seed gives other streets."""
    video: Path | None = None
    """Also film a drive; its labels go to <name>_labels beside it."""
    video_frames: int = 150
    """Length of the drive, at 30 frames a second."""

    def __post_init__(self) -> None:
        check_numbers(self)


def generate(config: SyntheticConfig, quiet: bool = False) -> None:
    """Write what ``config`` asks for, every folder and file whole or not at all.

    quiet: no progress bar for the images.

    HedgeError on sizes or counts that make no images, OutputError where something exists already.
    """
    if min(config.train, config.val, config.video_frames) < 1:
        raise HedgeError("--train, --val and --video-frames: at least 1 each")
    if min(config.size) < 32 or any(side % 2 for side in config.size):
        raise HedgeError(f"--size {config.size}: height and width must be even, 32 or more")
    for path in _outputs(config):
        if path.exists():
            raise OutputError(f"{path}: exists already; remove it or name another")
    with _new_folder(config.out) as folder:
        (folder / "classes.json").write_bytes(CLASSES.to_json())
        splits = ((0, "train", config.train), (1, "val", config.val))
        jobs = ((stream, split, i) for stream, split, count in splits for i in range(count))
        total = config.train + config.val
        shown = jobs if quiet else cli.track(jobs, "drawing streets", total)
        for stream, split, number in shown:
            rng = np.random.default_rng((config.seed, stream, number))
            _save(*still(rng, config.size), folder, split, f"{split}_{number:04d}")
    if config.video:
        film(config.video, config.video_frames, config.size, config.seed)


def _outputs(config: SyntheticConfig) -> Iterator[Path]:
    yield config.out
    if config.video:
        yield config.video
        yield labels_of(config.video)


def still(rng: np.random.Generator, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 RGB image and (H, W) uint8 training ids of a street of its own."""
    street = build(rng, length=60)
    time_s = rng.uniform(0, 6)
    camera = camera_at(street, time_s, size_hw)
    height, width = camera.size_hw
    camera = replace(
        camera,
        lateral=LANE_M + rng.uniform(-0.4, 0.3),
        height=rng.uniform(1.35, 1.8),
        focal=rng.uniform(0.75, 0.95) * width,
        horizon=rng.uniform(0.4, 0.48) * height,
    )
    image, labels = street.render(camera, time_s)
    return expose(image, rng, rng.uniform(0, 0.8), rng.uniform(1.5, 6)), labels


def drive(
    frames: int, size_hw: tuple[int, int], seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The frames of a drive through one street: RGB images and training ids, as ``still``."""
    rng = np.random.default_rng((seed, _DRIVE))
    street = build(rng, length=_SPEED_M_S * frames / FPS, weather=0)
    for index in range(frames):
        time_s = index / FPS
        image, labels = street.render(camera_at(street, time_s, size_hw), time_s)
        grain = np.random.default_rng((seed, _DRIVE, index))
        yield expose(image, grain, 0.0, 2.0, steady=True), labels


def camera_at(street: Street, time_s: float, size_hw: tuple[int, int]) -> Camera:
    """The car's camera after ``time_s`` seconds: it sways in its lane and nods a little."""
    height, width = (side * SUPERSAMPLING for side in size_hw)
    sway, nod = 0.12 * np.sin(0.7 * time_s), 0.004 * np.sin(2.3 * time_s)
    focal, horizon = 0.85 * width, (0.44 + nod) * height
    return Camera(street.road, _SPEED_M_S * time_s, LANE_M + sway, (height, width), focal, horizon)


def expose(
    image: np.ndarray, rng: np.random.Generator, blur: float, grain: float, steady: bool = False
) -> np.ndarray:
    """(H, W, 3) uint8 as a cheap camera records it: exposure, colour cast, vignette, blur, noise.

    blur: Gaussian sigma in pixels; grain: noise sigma in grey levels; steady: exposure fixed.
    """
    height, width = image.shape[:2]
    if blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    gain = 1.0 if steady else rng.uniform(0.85, 1.12)
    cast = 1.0 if steady else rng.uniform(0.96, 1.04, 3)
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    corners = (1 - 0.07 * (x * x + y * y))[..., None]
    noise = rng.standard_normal((height, width, 1), np.float32) * grain
    return np.clip(image * (gain * cast * corners) + noise, 0, 255).astype(np.uint8)


def film(video: Path, frames: int, size_hw: tuple[int, int], seed: int) -> None:
    """Write a drive as H.264 mp4, its labels and class list to ``<stem>_labels`` beside it."""
    shots = drive(frames, size_hw, seed)
    with _new_folder(labels_of(video)) as folder, atomic_path(video) as temporary:
        (folder / "classes.json").write_bytes(CLASSES.to_json())
        with av.open(str(temporary), "w", format="mp4") as container:
            stream = container.add_stream("h264", rate=FPS, options={"crf": "18"})
            stream.height, stream.width = size_hw
            stream.pix_fmt = "yuv420p"
            shown = cli.track(shots, "filming the drive", frames)
            for index, (image, labels) in enumerate(shown):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
                Image.fromarray(labels).save(folder / f"{index:06d}.png")
            container.mux(stream.encode())


def _save(image: np.ndarray, labels: np.ndarray, folder: Path, split: str, name: str) -> None:
    image_path = folder / "images" / split / f"{name}.jpg"
    label_path = folder / "labels" / split / f"{name}.png"
    for path in (image_path, label_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(image_path, quality=95, subsampling=0)
    Image.fromarray(labels).save(label_path)


def labels_of(video: Path) -> Path:
    """The folder that holds a drive's labels."""
    return video.with_name(f"{video.stem}_labels")


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears at ``path`` when everything in it is written, or not at all."""
    with temporary_folder(path) as folder:
        yield folder
        if path.exists():
            raise OutputError(f"{path}: exists already; remove it or name another")
        folder.rename(path)
