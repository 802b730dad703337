"""Which network an export is given: a run of ours, or an ONNX file or a module of anybody's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from export.config import Export
from export.foreign.module import of_module
from export.foreign.network import Foreign, of_file
from export.network import Network
from export.own.trained import Trained
from runtime.errors import HedgeError


def given(source: Export | Path | str | nn.Module, config: Export | None) -> tuple[Export, Network]:
    """All that is asked for, and the network; see ``export.exporter.publish``."""
    if not isinstance(source, Export | Path | str | nn.Module):
        raise TypeError(
            "expected an ExportConfig, the path of a run or of an ONNX file, or a torch.nn.Module, "
            f"got {type(source).__name__}"
        )
    config = source if isinstance(source, Export) else config or Export()
    if isinstance(source, nn.Module):
        return config, Foreign(of_module(source, config), config)
    if isinstance(source, Path | str):
        config = replace(config, run=Path(source))
    if config.run is not None and config.run.suffix == ".onnx":
        return config, Foreign(of_file(config.run, config.output), config)
    if told := config.of_others():
        raise HedgeError(f"--{told[0]} is for an ONNX file: a run of ours knows it itself")
    return config, Trained.open(config.run)
