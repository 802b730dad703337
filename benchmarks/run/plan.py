"""Which cells a run has: bundles × backends, the bare libraries, and the peers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import msgspec

from benchmarks.cells import bare_library
from benchmarks.cells.worker import Spec
from benchmarks.results import YARDSTICKS, Cell
from runtime.backends.registry import BACKENDS
from runtime.bundle.manifest import BUNDLES, FILE_NAME, Manifest
from runtime.bundle.shipped import find_bundle
from runtime.errors import HedgeError
from train.config import SHIPPED

RUNS = Path("runs")
NAIVE = "onnxruntime fp32 + numpy"
# Minutes to start.
COMPILED = (
    "torch.compile fp32", "torch.compile bf16",
    "torch.compile cuda fp16", "torch.compile cuda graph fp16",
)  # fmt: skip
PEERS = {  # by the device that they share with the bundles they are compared with
    "cpu": (YARDSTICKS["cpu"], "pytorch fp32", "pytorch bf16 channels_last", NAIVE, *COMPILED[:2]),
    "cuda": (
        YARDSTICKS["cuda"], "pytorch cuda fp32", "pytorch cuda fp16 channels_last",
        "pytorch cuda graph fp16 channels_last", *COMPILED[2:],
    ),
}  # fmt: skip


Peers = Literal["first", "all", "none", "nncf"]
# OpenVINO's quantiser on the same FP32 graph; the last is the one that takes minutes.
CONTROL_S = 1800.0  # it ranks every layer on the labelled frames before it gives one back
NNCF = ("nncf int8", "nncf int8 + label tail", "nncf int8 accuracy control")
Kind = Literal["bundle", "peer", "bare"]


@dataclass(frozen=True)
class Asked:
    """What a run compares its bundles with; checkpoints: of the peers, found by name where none is
    given; quick: without what takes minutes to start, and with fewer bare libraries; calibration:
    images for NNCF."""

    backends: Sequence[str]
    peers: Peers
    checkpoints: Sequence[Path]
    quick: bool
    calibration: Sequence[Path] = ()


@dataclass(frozen=True)
class Model:
    """A bundle of the run; name: its folder's, or its path where folders share a name; weights:
    what the bundles of one training, and no others, have in common."""

    name: str
    path: Path
    manifest: Manifest
    weights: str

    @property
    def run(self) -> str:
        """The name of the training: the bundle's without the precision."""
        return _run(self.manifest)

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        """Bundles with one of these have the same peers."""
        return self.weights, self.manifest.input.shape

    def search(self) -> Any:
        """What the search for an INT8 bundle's layers measured; None where there was none."""
        int8 = self.manifest.measured.int8
        name = int8.search if int8 else None
        if name is None or name not in self.manifest.files:
            return None
        return msgspec.json.decode((self.path / name).read_bytes())

    def cell(
        self, kind: Kind, backend: str, way: str = "", name: str = "", device: str = "cpu"
    ) -> Cell:
        """A row with all that is known before anything is measured."""
        batch, height, width, _ = self.manifest.input.shape
        bundle = kind != "peer"
        graph = self.path / self.manifest.graph(backend)
        return Cell(
            name=name or " ".join((self.name, backend, *([f"({way})"] if way else []))),
            kind=kind,
            bundle=self.name if bundle else None,
            model=self.weights,
            variant=self.manifest.variant,
            precision=self.manifest.precision if bundle else "fp32",
            backend=backend,
            device=device,
            way=way,
            input=(batch, height, width),
            model_mb=graph.stat().st_size / 1e6 if bundle else None,
            multiply_adds=self.manifest.measured.multiply_adds,
        )


@dataclass(frozen=True)
class Shared:
    """What the processes of all cells are given; places: the device of each backend, the backend's
    own kind where it is not named."""

    threads: int
    frames: Path
    scratch: Path
    places: Mapping[str, str] = field(default_factory=dict)

    def device(self, backend: str) -> str:
        """What ``backend`` computes on: "cuda" where PyTorch has the same device."""
        place = self.places.get(backend, "").casefold() or BACKENDS[backend].device
        return "cuda" if place in ("cuda", "tensorrt") else "cpu"

    def spec(self, module: str, model: Model, cell: Cell, weights: tuple[Path, ...] = ()) -> Spec:
        """What the process of ``cell`` loads, with a scratch folder of its own, whose name no
        system finds too long."""
        return Spec(
            f"benchmarks.cells.{module}", model.path, cell.backend, self.threads, self.frames,
            self.scratch / sha256(cell.name.encode()).hexdigest(), cell.way, weights,
            self.places.get(cell.backend, "") if cell.kind != "peer" else "",
        )  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """A cell to be: its row, its bundle, and what its process loads (None where it cannot run)."""

    cell: Cell
    model: Model
    spec: Spec | None


def models(paths: Sequence[Path]) -> list[Model]:
    """The bundles at ``paths``, or in the folders there, or shipped by that name; all under
    bundles/ where none is named.

    HedgeError for one that is missing or damaged.
    """
    found = list(dict.fromkeys(bundle for path in paths or (BUNDLES,) for bundle in _bundles(path)))
    names = Counter(path.name for path in found)
    manifests = {path: Manifest.load(path) for path in found}
    # Runs are called by their design unless they are named: those of two folders are two trainings.
    places = {(_run(manifest), path.parent) for path, manifest in manifests.items()}
    folders = Counter(run for run, _ in places)
    return [
        Model(
            name=path.name if names[path.name] == 1 else str(path),
            path=path,
            manifest=manifest,
            weights=run if folders[run := _run(manifest)] == 1 else str(path.parent / run),
        )
        for path, manifest in manifests.items()
    ]


def _run(manifest: Manifest) -> str:
    return manifest.name.removesuffix(f"-{manifest.precision}")


def plan(found: Sequence[Model], asked: Asked, shared: Shared) -> list[Planned]:
    """The cells, bundle by bundle: those that are compared closely lie side by side."""
    keys = list(dict.fromkeys(model.key for model in found))
    compared = {"first": keys[:1], "all": keys, "none": [], "nncf": keys}[asked.peers]
    planned: list[Planned] = []
    for model in found:
        for backend in asked.backends:
            planned.append(engine(model, backend, shared))
            closest = (model, backend) == (found[0], asked.backends[0])
            if model.key in compared and (closest or not asked.quick):
                loops = bare_library.WAYS[backend][: 2 if asked.quick else None]
                planned += bare(model, backend, loops, shared)
        if model.key in compared and model is next(m for m in found if m.key == model.key):
            if asked.peers == "nncf":
                planned += quantized(model, found, asked.calibration, shared)
                continue
            weights = _checkpoints(model, asked.checkpoints)
            for device in dict.fromkeys(map(shared.device, asked.backends)):
                ways = [way for way in PEERS[device] if not (asked.quick and way in COMPILED)]
                planned += peers(model, ways, weights, model is found[0], shared, device)
    return planned


def engine(model: Model, backend: str, shared: Shared) -> Planned:
    """A bundle in one of our engines."""
    cell = model.cell("bundle", backend, device=shared.device(backend))
    return Planned(cell, model, shared.spec("engine", model, cell))


def bare(model: Model, backend: str, ways: Sequence[str], shared: Shared) -> Iterator[Planned]:
    """The library without us on a bundle; ways: of ``benchmarks.cells.bare_library.WAYS``."""
    for way in ways:
        cell = model.cell("bare", backend, way, device=shared.device(backend))
        yield Planned(cell, model, shared.spec("bare_library", model, cell))


def peers(
    model: Model, ways: Sequence[str], weights: tuple[Path, ...], first: bool, shared: Shared,
    device: str = "cpu",
) -> Iterator[Planned]:  # fmt: skip
    """Others with a bundle's weights; ways: of PEERS[device]; first: their names are the ways
    alone."""
    for way in ways:
        backend = "onnxruntime" if way == NAIVE else "pytorch"
        module = "naive_onnxruntime" if way == NAIVE else "pytorch"
        name = way if first else f"{way} · {model.name}"
        cell = model.cell("peer", backend, way, name, device)
        if weights:
            yield Planned(cell, model, shared.spec(module, model, cell, weights))
        else:
            trouble = f"no {model.run} in {RUNS}/; name its run: --checkpoints RUN"
            yield Planned(replace(cell, error=trouble), model, None)


def quantized(
    model: Model, found: Sequence[Model], calibration: Sequence[Path], shared: Shared
) -> Iterator[Planned]:
    """NNCF on the FP32 bundle of ``model``'s weights, one of ``found``."""
    alike = [one for one in found if one.key == model.key]
    source = next((one for one in alike if one.manifest.precision == "fp32"), None)
    for way in NNCF:
        name = way if model is found[0] else f"{way} · {model.name}"
        cell = model.cell("peer", "openvino", way, name)
        if source is None:
            trouble = f"no FP32 bundle of {model.run} beside it: hedge export --fp32"
            yield Planned(replace(cell, error=trouble), model, None)
        else:
            spec = shared.spec("nncf", source, cell, tuple(calibration))
            longer = CONTROL_S if way == NNCF[-1] else 0.0
            yield Planned(cell, source, replace(spec, longer=longer))


def _checkpoints(model: Model, given: Sequence[Path]) -> tuple[Path, ...]:
    """Files of which one may be what a bundle was made of, the likeliest first: those given, else
    of the run that has its name, under runs/, beside the bundles or shipped. Whether it is, its
    weights tell (``benchmarks.cells.pytorch``)."""
    beside = model.path.absolute().parent.parent / RUNS
    named = [RUNS / model.run, beside / model.run, SHIPPED / f"{model.run}.pt"]
    runs = list(given) or named
    files = [
        file
        for run in sorted(runs, key=lambda run: model.run not in (run.name, run.parent.name))
        for file in ([run / "best.pt", run / "last.pt"] if run.is_dir() else [run])
    ]
    return tuple(dict.fromkeys(file.absolute() for file in files if file.is_file()))


def _bundles(path: Path) -> list[Path]:
    """``path`` where it is a bundle, or those in it, by name."""
    path = find_bundle(path)
    if (path / FILE_NAME).is_file():
        return [path]
    found = sorted(file.parent for file in path.glob(f"*/{FILE_NAME}"))
    if not found:
        raise HedgeError(f"{path}: no bundle here; make one: python -m export; or take street19")
    return found
