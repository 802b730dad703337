"""The fastest of several engine libraries: measured once on a machine, then known."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np

from runtime import cli
from runtime.backends.base import Engine
from runtime.bundle.cached import Cached
from runtime.latency import Interleaved, settled_ms

BUDGET_S = 3.0
ANSWERS = Cached("auto", 256)
ROUNDS = (3, 20)  # at least, however slow the model; at most, however fast
NOISE = 1.03  # closer than this, the first in the backends' table is taken


@dataclass(frozen=True)
class Setting:
    """All that an answer depends on; another setting is measured anew.

    libraries: version by backend; graphs: sha256 by file, whatever folder they are in; device: as
    asked for, "" where none was.
    """

    cpu: str
    features: tuple[str, ...]
    cores: int
    gpus: tuple[str, ...]
    driver: str
    libraries: dict[str, str]
    threads: int
    in_flight: int
    graphs: dict[str, str]
    device: str = ""


@dataclass(frozen=True)
class Choice:
    """An answer: the backend, and the median milliseconds of each that was timed."""

    backend: str
    ms: dict[str, float]


def fastest(backends: Sequence[str], load: Callable[[str], Engine], setting: Setting) -> Engine:
    """Load the fastest of ``backends``: as it is known for ``setting``, else as timed now.

    A backend that fails is left out with a warning; where all fail, the last one's error is raised.
    """
    if len(backends) == 1:
        return load(backends[0])
    if (known := _known(setting)) in backends:
        with suppress(Exception):  # it is told below, where it fails again
            return load(known)
    with ExitStack() as stack:
        engines = _start_all(backends, load, stack)
        ms = medians(engines) if len(engines) > 1 else dict.fromkeys(engines, 0.0)
        winner = pick(ms)
        stack.pop_all()
    for name, engine in engines.items():
        if name != winner:
            engine.close()
    if len(engines) == len(backends):  # a failure may pass: it must not decide for later starts
        ANSWERS.write(setting, msgspec.json.encode(Choice(winner, ms)))
    return engines[winner]


def _known(setting: Setting) -> str:
    """The backend that was the fastest; "" where nobody asked yet."""
    with suppress(msgspec.MsgspecError):  # nothing, or of another version of Hedge
        return msgspec.json.decode(ANSWERS.read(setting), type=Choice).backend
    return ""


def pick(ms: Mapping[str, float]) -> str:
    """The backend with the least milliseconds; within noise the first of them."""
    best = min(ms.values())
    return next(name for name, value in ms.items() if value <= best * NOISE)


def _start_all(
    backends: Sequence[str], load: Callable[[str], Engine], stack: ExitStack
) -> dict[str, Engine]:
    """Engines that are loaded and have answered once; ``stack`` closes them."""
    engines: dict[str, Engine] = {}
    failure: Exception | None = None
    for name in backends:
        try:
            with cli.err.status(f"auto: loading {name}"), ExitStack() as attempt:
                engine = attempt.enter_context(load(name))
                engine.infer(_noise(engine))
                stack.push(attempt.pop_all())
                engines[name] = engine
        except Exception as error:  # each library raises types of its own
            cli.warn(f"{name} is left out: {error}")
            failure = error
    if not engines:
        assert failure is not None
        raise failure
    return engines


def medians(engines: Mapping[str, Engine]) -> dict[str, float]:
    """Milliseconds a call of each engine, over rounds in which they take turns."""
    timed = Interleaved[int]({name: _timed(engine) for name, engine in engines.items()})
    start = time.perf_counter()
    with cli.err.status(f"auto: timing {', '.join(engines)}"):
        while timed.rounds < ROUNDS[1]:
            if timed.rounds >= ROUNDS[0] and time.perf_counter() - start > BUDGET_S:
                break
            timed.round(timed.rounds)
    found = timed.medians()
    return {name: found[name] for name in engines}  # in the order of the backends' table


def _timed(engine: Engine) -> Callable[[int], float]:
    frame = _noise(engine)
    return lambda _: settled_ms(partial(engine.infer, frame))


def _noise(engine: Engine) -> np.ndarray:
    shape = engine.manifest.input.shape
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
