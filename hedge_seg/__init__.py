"""Hedge as a library: train, export, stream, evaluate and benchmark from Python.

Names are imported on first use, so a box that only streams needs no PyTorch:

    import hedge_seg

    run = hedge_seg.train(hedge_seg.TrainConfig(data=Path("camvid"), epochs=1))
    [bundle] = hedge_seg.export(hedge_seg.ExportConfig(run=run.path, int8=True))
    for prediction in hedge_seg.stream("drive.mp4", bundle.path):
        print(prediction.frame.time_s, prediction.infer_ms)

A library that is missing raises ImportError, which names the extra that brings it.
"""

from __future__ import annotations

import importlib
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.__main__ import Benchmark as BenchmarkConfig
    from benchmarks.__main__ import benchmark
    from benchmarks.results import Results
    from export.config import Export as ExportConfig
    from export.exporter import Bundle
    from export.exporter import publish as export
    from runtime import Prediction, Segmenter, stream
    from runtime.errors import HedgeError
    from runtime.latency import Latency
    from train.config import TrainConfig
    from train.evaluate import Evaluate as EvaluateConfig
    from train.evaluation.run import evaluate_run as evaluate
    from train.evaluation.scoring import Evaluation
    from train.run import RunResult, train

_PACKAGES = ("runtime", "train", "export", "benchmarks")
_HOMES = {
    "BenchmarkConfig": ("benchmarks.__main__", "Benchmark"),
    "Bundle": ("export.exporter", "Bundle"),
    "EvaluateConfig": ("train.evaluate", "Evaluate"),
    "Evaluation": ("train.evaluation.scoring", "Evaluation"),
    "ExportConfig": ("export.config", "Export"),
    "HedgeError": ("runtime.errors", "HedgeError"),
    "Latency": ("runtime.latency", "Latency"),
    "Prediction": ("runtime", "Prediction"),
    "Results": ("benchmarks.results", "Results"),
    "RunResult": ("train.run", "RunResult"),
    "Segmenter": ("runtime", "Segmenter"),
    "TrainConfig": ("train.config", "TrainConfig"),
    "benchmark": ("benchmarks.__main__", "benchmark"),
    "evaluate": ("train.evaluation.run", "evaluate_run"),
    "export": ("export.exporter", "publish"),
    "stream": ("runtime", "stream"),
    "train": ("train.run", "train"),
}

__all__ = [
    "BenchmarkConfig",
    "Bundle",
    "EvaluateConfig",
    "Evaluation",
    "ExportConfig",
    "HedgeError",
    "Latency",
    "Prediction",
    "Results",
    "RunResult",
    "Segmenter",
    "TrainConfig",
    "__version__",
    "benchmark",
    "evaluate",
    "export",
    "stream",
    "train",
]


def require_own_packages() -> None:
    """Raise ImportError where a package that Hedge is made of is somebody else's.

    The packages have common names: a folder on Python's path with a ``train.py`` of its own, such
    as the current one in a notebook, would be imported in place of ours.
    """
    root = Path(__file__).resolve().parents[1]
    for name in _PACKAGES:
        spec = util.find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found != root / name / "__init__.py":
            raise ImportError(
                f"{name} is {found or 'missing'}, not the one of hedge-seg in {root}; rename it, "
                "start Python in another folder, or install hedge-seg again",
                name=name,
            )


def load(module: str) -> ModuleType:
    """Import a module of ours; ImportError names the extra where a library is missing."""
    from runtime.errors import MissingExtraError

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        if error.name and error.name.split(".")[0] in _PACKAGES:
            raise
        raise MissingExtraError(
            f"{error.name} not installed; pip install 'hedge-seg[{package}]'"
        ) from error


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("hedge-seg")
    if name not in _HOMES:
        raise AttributeError(f"module 'hedge_seg' has no attribute {name!r}")
    require_own_packages()
    module, attribute = _HOMES[name]
    value = getattr(load(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
