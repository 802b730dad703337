"""One engine library on all of its devices, in a process of its own: libraries may crash or hang.

``python -m runtime.doctor.trial BUNDLE BACKEND THREADS FOLDER`` writes JSON lines into the folder:
what it finds, then a trial of each device as it is done.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import msgspec
import numpy as np

from runtime import cli, machine
from runtime.backends import golden
from runtime.backends.base import Engine
from runtime.backends.registry import BACKENDS, computes, devices, load_engine
from runtime.bundle.measured import int8_share
from runtime.errors import GateError, HedgeError, one_line
from runtime.latency import settled_ms

SECONDS = {"cpu": 300, "cuda": 1200}  # for all devices of a library; TensorRT builds first
_CALLS = 5
_DOUBLES = {"AUTO"}  # one of the others


@dataclass(frozen=True)
class Trial:
    """An engine on a device, and what became of it.

    works: it loads, and answers the golden frames where there are some; agreement: share of their
    pixels with PyTorch's label, beside its bound; alike: of a generated frame's pixels, share with
    the label of the first engine; ms: median of a batch; int8: share of the multiply-adds that are
    computed in INT8, None where the library does not say; error: why it does not work; refused:
    whether by the golden frames.
    """

    backend: str
    device: str
    works: bool = False
    computes: str | None = None
    agreement: float | None = None
    bound: float | None = None
    alike: float | None = None
    ms: float | None = None
    int8: float | None = None
    error: str | None = None
    refused: bool = False


@dataclass(frozen=True)
class Found:
    """A library's devices here; error: why it does not even start."""

    devices: list[str]
    error: str | None = None


def run(
    bundle: Path, backend: str, threads: int, folder: Path, limit: float | None = None
) -> tuple[Found, list[Trial]]:
    """Try a library in a process of its own; folder: takes its answers; limit: seconds, of SECONDS
    where there is none."""
    arguments = (str(bundle.absolute()), backend, str(threads), str(folder))
    command = cli.module_command("runtime.doctor.trial", *arguments)
    limit = SECONDS[BACKENDS[backend].device] if limit is None else limit
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit, check=False)
        end = f"its process ended with {done.returncode}"
    except subprocess.TimeoutExpired:
        end = f"no answer within {limit:.0f} s"
    answers = _answers(folder, backend)
    lines = answers.read_bytes().splitlines() if answers.exists() else []
    if not lines:
        return Found([], end), []
    found = msgspec.json.decode(lines[0], type=Found)
    trials = [msgspec.json.decode(line, type=Trial) for line in lines[1:]]
    lost = found.devices[len(trials) :]
    for number, device in enumerate(lost):
        reason = f"not tried after {lost[0]}" if number else end
        trials.append(Trial(backend, device, error=reason))
    return found, trials


def main(bundle: Path, backend: str, threads: int, folder: Path) -> None:
    """The process: tell the devices, then try one after the other."""
    with _answers(folder, backend).open("wb", buffering=0) as file:

        def tell(answer: Found | Trial) -> None:
            file.write(msgspec.json.encode(answer) + b"\n")

        try:
            names = [name for name in devices(backend) if name not in _DOUBLES]
        except HedgeError as error:
            return tell(Found([], str(error)))
        tell(Found(names))
        for device in names:
            try:
                with load_engine(bundle, backend, threads, device=device) as engine:
                    tell(_tried(engine, device, bundle, folder))
            except HedgeError as error:
                refused = isinstance(error, GateError)
                tell(Trial(backend, device, error=str(error), refused=refused))
            except Exception as error:  # each library raises types of its own
                tell(Trial(backend, device, error=one_line(error)))


def _tried(engine: Engine, device: str, bundle: Path, folder: Path) -> Trial:
    manifest, arithmetic = engine.manifest, computes(engine)
    library = machine.version(BACKENDS[engine.backend].library) or ""
    frame = generated(manifest.input.shape)
    np.save(folder / f"{engine.backend}-{device}.npy", engine.infer(frame))
    return Trial(
        engine.backend,
        device,
        works=True,
        computes=arithmetic,
        agreement=golden.checked(engine, arithmetic, library, bundle) if manifest.golden else None,
        bound=manifest.golden.bound(arithmetic) if manifest.golden else None,
        ms=median(settled_ms(partial(engine.infer, frame)) for _ in range(_CALLS)),
        int8=int8_share(engine.multiply_adds()),
    )


def compared(trials: Sequence[Trial], folder: Path) -> list[Trial]:
    """The trials, with the labels of each compared with those of the first that works."""
    working = [trial for trial in trials if trial.works]
    if not working:
        return list(trials)

    def labels(trial: Trial) -> np.ndarray:
        return np.load(folder / f"{trial.backend}-{trial.device}.npy")

    first = labels(working[0])
    return [
        replace(trial, alike=float(np.mean(labels(trial) == first))) if trial.works else trial
        for trial in trials
    ]


def generated(shape: tuple[int, ...]) -> np.ndarray:
    """(N, H, W, 3) uint8 BGR: coloured patches with soft borders; the same on every machine."""
    batch, height, width, _ = shape
    patches = np.random.default_rng(0).integers(256, size=(batch, 6, 12, 3), dtype=np.uint8)
    size, way = (width, height), cv2.INTER_LINEAR_EXACT
    return np.stack([cv2.resize(patch, size, interpolation=way) for patch in patches])


def _answers(folder: Path, backend: str) -> Path:
    return folder / f"{backend}.jsonl"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
