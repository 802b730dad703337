"""A real, tiny bundle and small clips, made on the spot: nothing is downloaded or stored."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import settings as hypothesis_settings
from onnx import TensorProto, helper
from PIL import Image

from runtime import files
from runtime.bundle.classes import ClassSet
from runtime.bundle.manifest import Manifest, TensorSpec
from train.__main__ import main as train
from train.config import TrainConfig

# Same examples every time, and no deadline: how fast a shared machine is tells nothing.
hypothesis_settings.register_profile("steady", derandomize=True, deadline=None)
hypothesis_settings.load_profile("steady")

ROOT = Path(__file__).parents[1]
HEIGHT, WIDTH = 24, 32
CLASSES = ClassSet(("blue", "green", "red"), ((0, 0, 255), (0, 255, 0), (255, 0, 0)))


def brightest_channel_graph(shape: tuple[int, int, int, int]) -> onnx.ModelProto:
    """uint8 (N, H, W, 3) BGR → uint8 (N, H, W): 0, 1 or 2, whichever of B, G, R is brightest."""
    nodes = [
        helper.make_node("Cast", ["frame"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["values"], ["index"], axis=3, keepdims=0),
        helper.make_node("Cast", ["index"], ["index32"], to=TensorProto.INT32),
        helper.make_node("Cast", ["index32"], ["labels"], to=TensorProto.UINT8),
    ]
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, shape)
    labels = helper.make_tensor_value_info("labels", TensorProto.UINT8, shape[:3])
    graph = helper.make_graph(nodes, "brightest_channel", [frame], [labels])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def classes() -> ClassSet:
    """The classes of the tiny bundle: the brightest of B, G, R."""
    return CLASSES


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    """Write a bundle that labels each pixel with its brightest channel; (24, 32) unless said."""

    def make(
        folder: Path,
        size: tuple[int, int] = (HEIGHT, WIDTH),
        batch: int = 1,
        class_set: ClassSet = CLASSES,
        measured: dict[str, Any] | None = None,
    ) -> Path:
        folder.mkdir(parents=True)
        shape = (batch, *size, 3)
        onnx.save(brightest_channel_graph(shape), folder / "model.onnx")
        Manifest(
            name="brightest",
            variant="none",
            backbone="none",
            precision="fp32",
            input=TensorSpec("frame", shape, "uint8", "NHWC", "BGR"),
            output=TensorSpec("labels", shape[:3], "uint8", "NHW"),
            classes=class_set,
            files={"model.onnx": files.sha256(folder / "model.onnx")},
            measured=measured or {},
        ).save(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def shared_bundle(
    make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One bundle for all tests that only read it."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def bundle(make_bundle: Callable[..., Path], tmp_path: Path) -> Path:
    """A bundle of this test's own, free to be damaged."""
    return make_bundle(tmp_path / "bundles" / "tiny")


def picture(index: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """(H, W, 3) uint8 BGR: vertical bands of blue, green and red that wander with ``index``."""
    columns = (np.arange(size[1]) * 3 // max(size[1], 3) + index) % 3
    image = np.full((*size, 3), 20, np.uint8)
    for channel in range(3):
        image[:, columns == channel, channel] = 230
    return image


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    """Write a video with PyAV; lossless unless the codec is said to be another.

    turned: degrees, for an mp4 of a phone that was held sideways.
    """

    def make(
        path: Path,
        images: Sequence[np.ndarray] | int = 5,
        fps: int = 10,
        codec: str = "libx264rgb",
        pixels: str = "bgr24",
        turned: int = 0,
    ) -> Path:
        if isinstance(images, int):
            images = [picture(index) for index in range(images)]
        with av.open(f"file:{path.absolute()}", "w") as container:
            stream = container.add_stream(codec, rate=fps)
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = pixels
            stream.options = {"qp": "0"} if codec.startswith("libx264") else {}
            for image in images:
                frame = av.VideoFrame.from_ndarray(image, "bgr24").reformat(format=pixels)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if turned:
            turn(path, turned)
        return path

    return make


def turn(path: Path, degrees: int) -> None:
    """Write the display matrix of a phone held sideways into the track header of an mp4."""
    one = 1 << 16
    a, b, c, d = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.fixture(scope="session")
def make_images() -> Callable[..., Path]:
    """Write a folder of PNG images, named ``f0``, ``f1``, … unless said."""

    def make(folder: Path, images: Sequence[np.ndarray] | int = 3, name: str = "f{}") -> Path:
        if isinstance(images, int):
            images = [picture(index) for index in range(images)]
        folder.mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(images):
            rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            Image.fromarray(rgb).save(folder / f"{name.format(index)}.png")
        return folder

    return make


@pytest.fixture(scope="session")
def save_ids() -> Callable[[Path, np.ndarray], Path]:
    """Write (H, W) uint8 ids as a greyscale PNG."""

    def save(path: Path, ids: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids.astype(np.uint8)).save(path)
        return path

    return save


@pytest.fixture(scope="session")
def band_picture() -> Callable[..., np.ndarray]:
    """The picture the clips are made of, by index and (height, width)."""
    return picture


@pytest.fixture(scope="session")
def decode() -> Callable[[Path], list[np.ndarray]]:
    """Decode every frame of a video that decodes, as (H, W, 3) uint8 BGR."""

    def run(path: Path) -> list[np.ndarray]:
        images: list[np.ndarray] = []
        with av.open(f"file:{path.absolute()}") as container:
            for frame in container.decode(video=0):
                images.append(frame.to_ndarray(format="bgr24"))
        return images

    return run


@pytest.fixture(scope="session")
def playable() -> Callable[[Path], int]:
    """How many frames of a video decode before its end, or before a cut end."""

    def run(path: Path) -> int:
        count = 0
        with av.open(f"file:{path.absolute()}") as container, suppress(av.FFmpegError):
            for _ in container.decode(video=0):
                count += 1
        return count

    return run


@pytest.fixture(scope="session")
def start_video() -> Callable[..., subprocess.Popen[str]]:
    """Start ``python -m runtime.video`` in a process of its own, from the repository's root."""

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "runtime.video", *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)

    return start


@pytest.fixture(scope="session")
def resign() -> Callable[[Path], None]:
    """Make a bundle's manifest agree with its changed model again."""

    def run(bundle: Path) -> None:
        fields = msgspec.json.decode((bundle / "manifest.json").read_bytes())
        fields["files"]["model.onnx"] = files.sha256(bundle / "model.onnx")
        msgspec.convert(fields, Manifest).save(bundle)

    return run


@pytest.fixture
def mount_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Make a file system of a size such as "128k"; without the right to mount, the test is skipped.

    Nothing else fills up, or takes no writes, for root as well.
    """
    folder = tmp_path / "disk"

    def mount(size: str) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("mounting a file system takes root")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def tiny_disk(mount_disk: Callable[[str], Path]) -> Path:
    return mount_disk("128k")


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[BaseHTTPRequestHandler], None]], str]]:
    """Answer GET requests to 127.0.0.1 by a function; the server's address, http://….

    The function writes to ``wfile``; what has hung up is forgotten.
    """
    with ExitStack() as stack:

        def run(answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    with suppress(ConnectionError):
                        answer(self)

                def log_message(self, format: str, *args: object) -> None:
                    pass

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield run


def block_scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 RGB of coloured rectangles on blue, and their ids; the top row is ignored."""
    height, width = size
    ids = np.zeros(size, np.uint8)
    for _ in range(4):
        top, left = rng.integers(height), rng.integers(width)
        ids[top : top + height // 3, left : left + width // 3] = rng.integers(1, 3)
    colors = np.array(CLASSES.colors, np.float32) * 0.7 + 30
    image = np.clip(colors[ids] + rng.normal(0, 12, (*size, 3)), 0, 255).astype(np.uint8)
    ids[0] = 255
    return image, ids


@pytest.fixture(scope="session")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the folder layout that a network learns in seconds: 8 + 3 images of 48×64."""
    root = tmp_path_factory.mktemp("blocks")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for index in range(count):
            image, ids = block_scene(rng, (48, 64))
            Image.fromarray(image).save(root / "images" / split / f"{split}{index}.png")
            Image.fromarray(ids).save(root / "labels" / split / f"{split}{index}.png")
    (root / "classes.json").write_bytes(CLASSES.to_json())
    return root


@pytest.fixture(scope="session")
def tiny_config(blocks: Path) -> Callable[..., TrainConfig]:
    """A training that takes a second an epoch; keywords change its settings."""

    def make(out: Path, **changes: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "variant": "dlse_hed", "backbone": "mobilenet_v2", "data": blocks, "out": out,
            "name": "tiny", "epochs": 2, "batch": 4, "workers": 0, "lr": 3e-3,
        }  # fmt: skip
        return TrainConfig(**settings | changes)

    return make


@pytest.fixture(scope="session")
def trained_run(
    tiny_config: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of ``dlse_hed`` that has learned its data set; for reading only."""
    config = tiny_config(tmp_path_factory.mktemp("runs"), epochs=20, batch=2, lr=5e-3)
    train(config)
    return config.run
