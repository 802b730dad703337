"""A cell in a process of its own: it answers one-line JSON requests until its input ends.

``python -m benchmarks.cells.worker SPEC``. What libraries print goes to standard error, so that
standard output carries answers only. The parent is ``benchmarks.cells.process``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

import msgspec

from runtime.errors import HedgeError

Thing = TypeVar("Thing")
_WATCH_S = 1.0


@dataclass(frozen=True)
class Spec:
    """What a child loads.

    module: whose ``load(spec)`` gives what is served; bundle: the model, of peers and bare cells
    as well; way: see ``benchmarks.results.Cell``; threads: of the CPU, 0 leaves them to the
    library; frames: the list that ``benchmarks.run.frames`` writes; weights: checkpoints of which a
    PyTorch peer takes the bundle's, ONNX file of the naive ONNX Runtime one, or what NNCF
    calibrates with; scratch: a folder to write to; device: of our engine and of the bare library,
    see ``runtime.backends.registry.on_device``; longer: seconds that its start takes by itself,
    beyond patience.
    """

    module: str
    bundle: Path
    backend: str
    threads: int
    frames: Path
    scratch: Path
    way: str = ""
    weights: tuple[Path, ...] = ()
    device: str = ""
    longer: float = 0.0


@dataclass(frozen=True)
class Trained:
    """What ``benchmarks.cells.training`` answers.

    images_per_s: behind the first steps, in which libraries set themselves up; gpu_mb: memory
    that PyTorch took of the GPU at most.
    """

    images_per_s: float
    steps: int
    first_loss: float
    last_loss: float
    gpu_mb: float


class Served(Protocol):
    """A loaded cell: each method is a request, its keywords the rest of the request."""

    def ready(self) -> str:
        """The arithmetic, once the cell has given its first labels; "" where it is not its own."""

    def measure(self, number: int) -> float:
        """Milliseconds a frame, in round ``number``."""


def to_json(thing: object) -> bytes:
    """A dataclass with paths in it, as one line."""
    return msgspec.json.encode(thing, enc_hook=str)


def from_json(line: bytes | str, kind: type[Thing]) -> Thing:
    """What ``to_json`` wrote."""
    return msgspec.json.decode(line, type=kind, dec_hook=lambda path, text: path(text))


def main(spec: Spec, answers: BinaryIO) -> None:
    """Load, say so, and answer every line of standard input; ends with its parent."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        served: Served = import_module(spec.module).load(spec)
        _say(answers, answer=served.ready())
    except Exception as error:  # every library raises types of its own
        _say(answers, error=_line(error))
        return
    for line in sys.stdin.buffer:
        request = msgspec.json.decode(line)
        try:
            _say(answers, answer=getattr(served, request.pop("do"))(**request))
        except Exception as error:
            _say(answers, error=_line(error))


def _end_with(parent: int) -> None:
    """Leave once the parent is gone: a killed run closes nothing, and a library may hang."""
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)


def _say(answers: BinaryIO, **reply: object) -> None:
    answers.write(msgspec.json.encode(reply) + b"\n")
    answers.flush()


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, HedgeError) else f"{type(error).__name__}: {text}"


def answers_only() -> BinaryIO:
    """Standard output for answers alone: whoever prints from now on prints to standard error."""
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return own


if __name__ == "__main__":
    main(from_json(sys.argv[1], Spec), answers_only())
