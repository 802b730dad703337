"""Fixtures that several folders of tests share; tests/equipment makes what they hand out."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings

from runtime.bundle.classes import ClassSet
from tests.equipment import bundles, http_server, pictures, processes, videos
from train.__main__ import main as train
from train.config import TrainConfig

# Same examples every time, and no deadline: how fast a shared machine is tells nothing.
hypothesis_settings.register_profile("steady", derandomize=True, deadline=None)
hypothesis_settings.load_profile("steady")


# A shell's background job ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What programs keep for their next start lies in the tests' own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def classes() -> ClassSet:
    """The classes of the tiny bundle: the brightest of B, G, R."""
    return pictures.CLASSES


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    """Write a bundle that labels each pixel with its brightest channel."""
    return bundles.make_bundle


@pytest.fixture(scope="session")
def resign() -> Callable[[Path], None]:
    """Make a bundle's manifest agree with its changed model again."""
    return bundles.resign


@pytest.fixture(scope="session")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bundle for all tests that only read it."""
    return bundles.make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of this test's own, free to be damaged."""
    return bundles.make_bundle(tmp_path / "bundles" / "tiny")


@pytest.fixture(scope="session")
def band_picture() -> Callable[..., np.ndarray]:
    """The picture the clips are made of, by index and (height, width)."""
    return pictures.picture


@pytest.fixture(scope="session")
def make_images() -> Callable[..., Path]:
    """Write a folder of PNG images."""
    return pictures.make_images


@pytest.fixture(scope="session")
def save_ids() -> Callable[[Path, np.ndarray], Path]:
    """Write (H, W) uint8 ids as a greyscale PNG."""
    return pictures.save_ids


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    """Write a video with PyAV; lossless unless the codec is said to be another."""
    return videos.make_clip


@pytest.fixture(scope="session")
def decode() -> Callable[[Path], list[np.ndarray]]:
    """Decode every frame of a video, as (H, W, 3) uint8 BGR."""
    return videos.decode


@pytest.fixture(scope="session")
def playable() -> Callable[[Path], int]:
    """How many frames of a video decode before its end, or before a cut end."""
    return videos.playable


@pytest.fixture(scope="session")
def start_video() -> Callable[..., subprocess.Popen[str]]:
    """Start ``python -m runtime.video`` in a process of its own, from the repository's root."""
    return processes.start_video


@pytest.fixture
def mount_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Make a file system of a size such as "128k"; without the right to mount, the test is skipped.

    Nothing else fills up, or takes no writes, for root as well.
    """
    folder = tmp_path / "disk"

    def mount(size: str) -> Path:
        if not processes.mount(folder, size):
            pytest.skip("mounting a file system takes root")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def tiny_disk(mount_disk: Callable[[str], Path]) -> Path:
    """A file system of 128 KiB."""
    return mount_disk("128k")


@pytest.fixture
def serve() -> Iterator[Callable[[http_server.Answer], str]]:
    """Answer GET requests to 127.0.0.1 by a function; the server's address, http://…."""
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(http_server.serving(answer))


@pytest.fixture(scope="session")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the folder layout that a network learns in seconds: 8 + 3 images of 48×64."""
    return pictures.make_blocks(tmp_path_factory.mktemp("blocks"))


@pytest.fixture(scope="session")
def tiny_config(blocks: Path) -> Callable[..., TrainConfig]:
    """A training that takes a second an epoch; keywords change its settings."""

    def make(out: Path, **changes: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "variant": "dlse_hed", "backbone": "timm/test_resnet", "data": blocks, "out": out,
            "name": "tiny", "epochs": 2, "batch": 4, "workers": 0, "lr": 3e-3,
        }  # fmt: skip
        return TrainConfig(**settings | changes)

    return make


@pytest.fixture(scope="session")
def trained_run(
    tiny_config: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of ``dlse_hed`` that has learned its data set; for reading only."""
    config = tiny_config(tmp_path_factory.mktemp("runs"), epochs=14, batch=2, lr=8e-3)
    train(config)
    return config.run
