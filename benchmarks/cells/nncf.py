"""NNCF, OpenVINO's own quantiser, on the FP32 graph that our INT8 was made of.

It is given the calibration images of a data set's training split, as ours, and the graph from
frames on. Its accuracy control is held to our usual budget of mIoU, on the labelled frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nncf
import numpy as np
import openvino
from nncf.parameters import DropType

from benchmarks.cells.engine import EngineCell, Scene
from benchmarks.cells.worker import Spec, from_json
from export.exporter import UNASKED
from export.int8.calibration import Images
from runtime.accuracy.label_files import read_ids
from runtime.accuracy.metrics import ConfusionMatrix
from runtime.backends import ov
from runtime.backends.base import OneAtATime
from runtime.backends.label_tail import Labels, label_tail
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError
from runtime.segment import Segmenter


class Way(NamedTuple):
    """tail: whether the labels are made by our tail, of scores; control: of accuracy."""

    tail: bool
    control: bool


WAYS = {
    "nncf int8": Way(tail=False, control=False),
    "nncf int8 + label tail": Way(tail=True, control=False),
    "nncf int8 accuracy control": Way(tail=False, control=True),
}


class Quantized(OneAtATime):
    """A model that NNCF made, in an OpenVINO infer request; see ``Engine``."""

    backend = "openvino"

    def __init__(
        self, model: openvino.CompiledModel, manifest: Manifest, labels: Labels = np.copy
    ) -> None:
        self.manifest, self._labels = manifest, labels
        self._request = model.create_infer_request()

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        self._request.get_input_tensor().data[:] = batch
        self._request.start_async()
        self._request.wait()
        return self._labels(self._request.get_output_tensor().data)


def load(spec: Spec) -> EngineCell:
    """The FP32 bundle ``spec.bundle``, calibrated with the images ``spec.weights``."""
    scenes = from_json(spec.frames.read_bytes(), list[Scene])
    return EngineCell(
        spec, quantized(spec.bundle, spec.way, spec.weights, scenes, spec.threads), "int8"
    )


def quantized(
    bundle: Path, way: str, images: Sequence[Path], scenes: Sequence[Scene], threads: int
) -> Quantized:
    """An FP32 bundle as NNCF quantises it; way: of WAYS; scenes: labelled, for accuracy control.

    threads: of the CPU, 0 leaves them to the library. HedgeError where control has no labels.
    """
    manifest, wanted = Manifest.load(bundle), WAYS[way]
    scores, tail = label_tail(manifest)
    tensor, labels = (scores, tail) if wanted.tail else (manifest.output.name, np.copy)
    model = ov.part(bundle, manifest, tensor)
    shown = nncf.Dataset(list(_batches(images, manifest)))
    if wanted.control:
        model = _controlled(model, shown, scenes, manifest)
    else:
        model = nncf.quantize(model, shown, subset_size=len(images))
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    return Quantized(ov.core().compile_model(model, "CPU", config), manifest, labels)


def _controlled(
    model: openvino.Model, images: nncf.Dataset, scenes: Sequence[Scene], manifest: Manifest
) -> openvino.Model:
    """Layers go back to floating point until the mIoU on the labelled frames is within budget."""
    labelled = [scene for scene in scenes if scene.label]
    if not labelled:
        raise HedgeError("accuracy control wants labelled frames: --data")

    def miou(candidate: openvino.CompiledModel, data: Iterable[Scene]) -> tuple[float, None]:
        segmenter = Segmenter.of(Quantized(candidate, manifest))
        confusion = ConfusionMatrix(manifest.classes)
        for scene in data:
            assert scene.label is not None
            confusion.update(read_ids(scene.label), segmenter(scene.read()))
        return float(confusion.miou()), None

    assert UNASKED.miou is not None
    return nncf.quantize_with_accuracy_control(
        model, images, nncf.Dataset(labelled), miou, max_drop=UNASKED.miou / 100,
        drop_type=DropType.ABSOLUTE,
    )  # fmt: skip


def _batches(images: Sequence[Path], manifest: Manifest) -> Iterable[np.ndarray]:
    """Each image as the runtime would feed it, as often as the graph takes frames."""
    batch, height, width, _ = manifest.input.shape
    for frame in Images("", "", tuple(images)).frames((height, width)):
        yield np.repeat(frame[None], batch, axis=0)
