"""One trained network, calibrated: from here every INT8 form of it is written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from export import bundle
from export.int8 import qdq
from export.int8.calibration import Images
from export.int8.pairs import Kept
from export.int8.ranges import METHODS, Histogram, Method
from runtime.backends.registry import BACKENDS
from runtime.bundle.manifest import MODEL, Manifest
from runtime.segment import Segmenter
from train.datasets.index import evenly_spaced

CPU_MODEL = "model.cpu.onnx"
TRIAL = 16  # calibration images that methods compete on


@dataclass(frozen=True)
class Quantizer:
    """FP32 and FP16 graphs of a network, the same but for the type, and the ranges of both.

    model: the network's fingerprint; manifest: describes the bundle that is to come, except for
    its files.
    """

    fp32: Path
    fp16: Path
    model: str
    ranges: qdq.Ranges
    manifest: Manifest

    def layers(self) -> list[str]:
        """Names of the layers that can be kept in floating point, in graph order."""
        return qdq.layers(ir.load(self.fp32))

    def write(self, folder: Path, kept: Kept = ()) -> Manifest:
        """Make ``folder`` an INT8 bundle with the layers ``kept`` in floating point.

        It carries two forms from one set of scales: FP16 with int8 activations for TensorRT, FP32
        with uint8 ones for the CPU engines, which are 1.2 to 2 times slower on the former.
        """
        graphs = {name: CPU_MODEL for name, row in BACKENDS.items() if row.device == "cpu"}
        return self._written(folder, kept, (MODEL, CPU_MODEL), graphs)

    def trial(self, folder: Path, kept: Kept, backends: Sequence[str]) -> None:
        """Make ``folder`` an INT8 bundle for engines of one device: half the work of ``write``."""
        on_cpu = BACKENDS[backends[0]].device == "cpu"
        name = CPU_MODEL if on_cpu else MODEL
        self._written(folder, kept, (name,), dict.fromkeys(backends, name))

    def _written(
        self, folder: Path, kept: Kept, names: Sequence[str], graphs: dict[str, str]
    ) -> Manifest:
        folder.mkdir(parents=True, exist_ok=True)
        forms = {MODEL: (self.fp16, qdq.TENSORRT), CPU_MODEL: (self.fp32, qdq.CPU)}
        for name in names:
            source, form = forms[name]
            qdq.quantize(source, folder / name, self.ranges, form, kept)
        manifest = replace(self.manifest, files=bundle.hashes(folder), graphs=graphs)
        manifest.save(folder)
        return manifest

    def using(self, ranges: qdq.Ranges) -> Quantizer:
        """The same network with other ranges."""
        return replace(self, ranges=ranges)


def best_method(
    quantizer: Quantizer,
    histograms: dict[str, Histogram],
    images: Images,
    backend: str,
    folder: Path,
) -> tuple[Method, dict[Method, float]]:
    """The calibration method that keeps most of the FP32 graph's labels, and each one's share.

    Judged on calibration images, never on those that accuracy is reported on.
    """
    trial = replace(images, paths=tuple(evenly_spaced(images.paths, TRIAL)))
    size = quantizer.manifest.input.shape[1:3]
    frames = list(trial.frames((size[0], size[1])))
    reference = _labels(plain(quantizer, folder / "fp32"), backend, frames)
    shares = {}
    for method in METHODS:
        ranges = {name: histogram.range(method) for name, histogram in histograms.items()}
        place = folder / method
        quantizer.using(ranges).trial(place, (), [backend])
        shares[method] = float((_labels(place, backend, frames) == reference).mean())
    return max(METHODS, key=lambda method: shares[method]), shares


def plain(quantizer: Quantizer, folder: Path) -> Path:
    """Make ``folder`` a bundle of the FP32 graph, to compare with."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(quantizer.fp32.read_bytes())
    manifest = replace(quantizer.manifest, precision="fp32", files=bundle.hashes(folder))
    manifest.save(folder)
    return folder


def _labels(folder: Path, backend: str, frames: Sequence[np.ndarray]) -> np.ndarray:
    with ExitStack() as stack:
        segmenter = stack.enter_context(Segmenter(folder, backend))
        return np.stack([segmenter(frame) for frame in frames])
