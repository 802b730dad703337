"""A bundle's golden frames: what an engine must answer before its first real frame.

A library of another version, another driver or another device computes with other kernels, and a
wrong one answers as fast as a right one. What was proven on a machine is kept in the bundle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from runtime import machine
from runtime.accuracy.label_files import read_ids
from runtime.backends.base import Engine, check_labels
from runtime.bundle import kept
from runtime.bundle.classes import IGNORE
from runtime.bundle.golden import Golden
from runtime.bundle.manifest import ENGINES, Manifest
from runtime.errors import GateError, HedgeError, one_line
from runtime.images import read_rgb

PROVEN = Path(ENGINES) / "golden.json"  # in the bundle
SIDE = 256  # pixels of a picture, at most


@dataclass(frozen=True)
class Proof:
    """All that an engine's answers depend on; with another of these it is asked again.

    bundle: the manifest's digest; library: its version; device: what computes, with its driver,
    and of an engine that was built here also its sha256.
    """

    bundle: str
    backend: str
    library: str
    device: str
    cpu: str
    gpus: tuple[str, ...]
    driver: str


def require(engine: Engine, arithmetic: str, library: str, bundle: Path) -> bool:
    """GateError where ``engine`` gives too few of the golden frames' pixels PyTorch's label.

    arithmetic: that it computes in; library: its version. Nothing is run, and the answer is False,
    where this is known of the bundle, the library and the machine, or where the bundle has no
    golden frames. A first batch within the bound is enough, so that a start costs no more than one
    that asks nothing: libraries must answer once anyway. All frames are asked where it is not.
    """
    golden = engine.manifest.golden
    if golden is None:
        return False
    proof = Proof(
        bundle=engine.manifest.digest,
        backend=engine.backend,
        library=library,
        device=engine.device,
        cpu=" ".join((machine.cpu_name(), *machine.cpu_features())),
        gpus=machine.gpus(),
        driver=machine.gpu_driver(),
    )
    if proof in kept.read(bundle / PROVEN, Proof):
        return False
    first = engine.manifest.input.shape[0]
    if agreement(engine, bundle, first) < golden.bound(arithmetic):
        checked(engine, arithmetic, library, bundle)
    kept.write(bundle / PROVEN, [*kept.read(bundle / PROVEN, Proof), proof])
    return True


def checked(engine: Engine, arithmetic: str, library: str, bundle: Path) -> float:
    """The share of all golden frames' pixels with PyTorch's label; GateError below the bound."""
    assert engine.manifest.golden is not None
    share, bound = agreement(engine, bundle), engine.manifest.golden.bound(arithmetic)
    origin = engine.manifest.measured.reference
    if share < bound:
        raise GateError(
            f"{bundle}: {engine.backend} {library} on {engine.device} gives {100 * share:.2f} % of "
            f"the golden frames' pixels {origin}'s label, the bundle's bound for {arithmetic} is "
            f"{100 * bound:.2f} %: not used; take another --backend or version of the library, or "
            "export again on this machine"
        )
    return share


def agreement(engine: Engine, bundle: Path, frames: int | None = None) -> float:
    """The share of the pixels of golden frames, the first ``frames`` or all, with PyTorch's label.

    Of those that are asked: the others have no label. 1 where none is.

    HedgeError where the engine fails, or answers a class that the manifest does not name.
    """
    pictures, expected = load(bundle, engine.manifest, frames)
    try:
        found = answers(engine.infer, engine.manifest, pictures)
    except MemoryError:
        raise
    except Exception as error:  # each library raises types of its own
        raise HedgeError(
            f"{bundle}: {engine.backend} fails on the golden frames: {one_line(error)}"
        ) from error
    check_labels(engine.manifest, found)
    asked = expected != IGNORE
    return float(np.mean(found[asked] == expected[asked])) if asked.any() else 1.0


def load(
    bundle: Path, manifest: Manifest, frames: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The pictures, (n, h, w, 3) uint8 BGR, and PyTorch's labels at their pixels, (n, h, w) uint8,
    IGNORE where none is asked.

    frames: the first so many, or all. HedgeError for files that are not what an export writes.
    """
    assert manifest.golden is not None
    size = picture_size(manifest)
    pictures, labels = [], []
    for picture, ids in manifest.golden.files()[:frames]:
        pictures.append(cv2.cvtColor(read_rgb(bundle / picture), cv2.COLOR_RGB2BGR))
        labels.append(read_ids(bundle / ids))
        if pictures[-1].shape[:2] != size or labels[-1].shape != size:
            raise HedgeError(f"{bundle / picture}: golden frames are {size} here; export again")
    return np.stack(pictures), np.stack(labels)


def answers(
    infer: Callable[[np.ndarray], np.ndarray], manifest: Manifest, pictures: np.ndarray
) -> np.ndarray:
    """What ``infer`` labels the pictures' own pixels with, enlarged to the bundle's frames.

    infer: of an engine, on batches of the manifest's shape. The enlargement is exact on every
    machine.
    """
    batch, height, width, _ = manifest.input.shape
    rows, columns = (
        (2 * np.arange(small) + 1) * full // (2 * small)  # the middle of what a pixel becomes
        for small, full in zip(picture_size(manifest), (height, width), strict=True)
    )
    found: list[np.ndarray] = []
    for start in range(0, len(pictures), batch):
        some = [pictures[min(start + place, len(pictures) - 1)] for place in range(batch)]
        frames = [
            cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
            for picture in some
        ]
        found.extend(labels[np.ix_(rows, columns)] for labels in infer(np.stack(frames)))
    return np.stack(found[: len(pictures)])


def picture(image: np.ndarray, manifest: Manifest) -> np.ndarray:
    """(H, W, 3) uint8 BGR at a golden frame's size."""
    height, width = picture_size(manifest)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def picture_size(manifest: Manifest) -> tuple[int, int]:
    """(h, w) of golden frames: the bundle's frames, made small."""
    height, width = manifest.input.shape[1:3]
    scale = min(1.0, SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def save(bundle: Path, golden: Golden, pictures: np.ndarray, labels: np.ndarray) -> None:
    """Write what ``load`` reads, into a bundle that is being made."""
    for (name, ids), picture, own in zip(golden.files(), pictures, labels, strict=True):
        (bundle / name).parent.mkdir(exist_ok=True)
        for path, pixels in ((bundle / name, picture), (bundle / ids, own)):
            done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
            assert done
            path.write_bytes(data.tobytes())
