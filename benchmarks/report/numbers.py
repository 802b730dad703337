"""How numbers and proper names are written on the page, in Markdown and in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.stats.bootstrap import Interval

MISSING = "not available"
PROPER = {
    "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT",
    "tensorrt_rtx": "TensorRT-RTX", "pytorch": "PyTorch", "torch": "PyTorch",
    "fp32": "FP32", "fp16": "FP16", "int8": "INT8", "cpu": "CPU", "cuda": "CUDA", "gpus": "GPUs",
    "python": "Python", "numpy": "NumPy",
}  # fmt: skip


def proper(word: str) -> str:
    """As its makers write it."""
    return PROPER.get(word, word)


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
    return f"{value:.{_digits(value)}f}×"


def span(interval: Interval | None) -> str | None:
    """``4.2–4.4``; None where both ends are one."""
    if interval is None or interval.low == interval.high:
        return None
    digits = 2 if interval.value < 2 else 1
    return f"{interval.low:.{digits}f}–{interval.high:.{digits}f}"


def signed(value: float) -> str:
    """``+1.2``, ``−0.3``, and never a zero with a sign."""
    text = f"{value:+.1f}".replace("-", "−")
    return text[1:] if float(f"{value:.1f}") == 0 else text


def some(names: Sequence[str], limit: int = 4) -> str:
    """``a, b and c``; of many only the first."""
    shown = list(names)
    if len(shown) > limit:
        shown = [*shown[: limit - 1], f"{len(shown) - limit + 1} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def said(value: object) -> str:
    """A fact of the machine or of a calibration in words."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return MISSING if value in (None, "") else str(value)


def _digits(value: float) -> int:
    return 2 if value < 2 else 1 if value < 10 else 0
