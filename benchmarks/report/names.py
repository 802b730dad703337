"""How cells, numbers and what is missing are called on the page, in Markdown and in sentences."""

from __future__ import annotations

import math
from collections import Counter
from functools import cached_property

from benchmarks.results import YARDSTICK, Cell, Results
from benchmarks.stats.bootstrap import Interval, ratio

MISSING = "not available"
PROPER = {
    "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT",
    "tensorrt_rtx": "TensorRT-RTX", "pytorch": "PyTorch", "torch": "PyTorch",
    "fp32": "FP32", "fp16": "FP16", "int8": "INT8", "cpu": "CPU", "gpus": "GPUs",
    "python": "Python", "numpy": "NumPy",
}  # fmt: skip


class Names:
    """What the cells of a run are called: as short as can be, and no two alike."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def model(self, cell: Cell) -> str:
        """Whose weights: the variant where that says it, else the model's name."""
        if cell.variant and self._models[cell.variant] == 1:
            return cell.variant
        return cell.model or cell.bundle or cell.variant or cell.name

    def full(self, cell: Cell) -> str:
        """``dlse_hed INT8 on OpenVINO``, and the size where the run has several."""
        return self._fulls.get(cell.name, cell.name)

    def lines(self, cell: Cell) -> tuple[str, str]:
        """The same in two lines: ``INT8 on OpenVINO`` and ``dlse_hed``."""
        first = way(cell) if cell.name in self._fulls else cell.name
        return first, self.model(cell) + self._size(cell)

    @cached_property
    def _models(self) -> Counter[str]:
        """How many models there are of each variant."""
        return Counter(
            variant for variant, _ in {(c.variant, c.model) for c in self._results.cells}
        )

    @cached_property
    def _fulls(self) -> dict[str, str]:
        """By cell; none where two would be called alike."""
        cells = self._results.cells
        found = {c.name: f"{self.model(c)} {way(c)}{self._size(c)}" for c in cells}
        return found if len(set(found.values())) == len(cells) else {}

    @cached_property
    def _sizes(self) -> int:
        return len({cell.input for cell in self._results.cells if any(cell.input)})

    def _size(self, cell: Cell) -> str:
        return f", {shape(cell)}" if self._sizes > 1 and any(cell.input) else ""


def way(cell: Cell) -> str:
    """``INT8 on OpenVINO``, ``PyTorch FP32 channels_last``, ``bare OpenVINO INT8, loop``."""
    backend = proper(cell.backend)
    if cell.kind == "bundle":
        return f"{proper(cell.precision)} on {backend}" if cell.backend else cell.name
    if cell.kind == "bare":
        return f"bare {backend} {proper(cell.precision)}" + (f", {cell.way}" if cell.way else "")
    return " ".join(map(proper, (cell.way or cell.name).split()))


def proper(word: str) -> str:
    """As its makers write it."""
    return PROPER.get(word, word)


def shape(cell: Cell) -> str:
    """``1×360×480``, or only the size where it is one frame at a time."""
    batch, height, width = cell.input
    return f"{height}×{width}" if batch == 1 else f"{batch}×{height}×{width}"


def yardstick(results: Results, cell: Cell) -> Cell | None:
    """PyTorch on the same weights and frames, where it was timed."""
    same = [
        other
        for other in results.cells
        if other.kind == "peer" and other.way == YARDSTICK and other.timing
        if (other.model, other.input[1:]) == (cell.model, cell.input[1:])
    ]
    return min(same, key=lambda other: other.input[0], default=None)


def speedup(results: Results, cell: Cell) -> Interval | None:
    """How many times faster than the yardstick; None where one of the two was not timed."""
    base = yardstick(results, cell)
    return ratio(base.timing, cell.timing) if base and base.timing and cell.timing else None


def reference(results: Results, cell: Cell) -> Cell | None:
    """What accuracy is lost against: the yardstick, or FP32 of the same model where there is none.

    The same engine's FP32 goes before another's.
    """
    same = [
        other
        for other in results.cells
        if other.accuracy and other.model == cell.model and other.kind != "bare"
        if other.way == YARDSTICK or (other.kind == "bundle" and other.precision == "fp32")
    ]
    return min(same, key=lambda o: (o.kind == "bundle", o.backend != cell.backend), default=None)


def overheads(results: Results) -> list[tuple[Cell, Cell]]:
    """Our engine beside the bare library with the same bundle, all ways of it."""
    return [
        (cell, bare)
        for cell in results.cells
        for bare in results.cells
        if cell.kind == "bundle" and bare.kind == "bare" and cell.timing and bare.timing
        if (cell.bundle, cell.backend, cell.input) == (bare.bundle, bare.backend, bare.input)
    ]


def number(value: float | None, unit: str = "") -> str | None:
    """Three digits that count: 1.23, 12.3, 123; None stays None, as does what is no number."""
    if value is None or not math.isfinite(value):
        return None
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}{unit}"


def percent(share: float | None, digits: int = 1) -> str | None:
    """0..1 as ``67.8 %``."""
    if share is None or not math.isfinite(share):
        return None
    return f"{100 * share:.{digits}f} %"


def times(value: float | None) -> str | None:
    """``4.3×``; close to one a digit more."""
    if value is None or not math.isfinite(value):
        return None
    return f"{value:.2f}×" if value < 2 else f"{value:.1f}×" if value < 10 else f"{value:.0f}×"


def signed(value: float) -> str:
    """``+1.2``, ``−0.3``, and never a zero with a sign."""
    text = f"{value:+.1f}".replace("-", "−")
    return text[1:] if float(f"{value:.1f}") == 0 else text


def span(interval: Interval, digits: int) -> str:
    """``4.2–4.4``."""
    return f"{interval.low:.{digits}f}–{interval.high:.{digits}f}"


def some(names: list[str], limit: int = 4) -> str:
    """``a, b and c``; of many only the first."""
    if len(names) > limit:
        names = [*names[: limit - 1], f"{len(names) - limit + 1} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
