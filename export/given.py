"""Which network an export is given: a run of ours, or an ONNX file or a module of anybody's."""

from __future__ import annotations

from torch import nn

from export.config import Export
from export.foreign.module import of_module
from export.foreign.network import Foreign, of_file
from export.network import Network
from export.own.trained import Trained
from runtime.errors import HedgeError


def given(config: Export, module: nn.Module | None) -> Network:
    """The network of ``config.run``, unless there is a module; HedgeError names what is wrong."""
    if module is not None:
        return Foreign(of_module(module, config), config)
    if config.run is not None and config.run.suffix == ".onnx":
        return Foreign(of_file(config.run, config.output), config)
    if told := config.of_others():
        raise HedgeError(f"--{told[0]} is for an ONNX file: a run of ours knows it itself")
    return Trained.open(config.run)
