"""A PyTorch module of somebody else as a network to export."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

import torch
from torch import nn

from export.config import Export
from export.foreign.network import Run, Source
from export.foreign.opened import Border, Opened
from export.own.to_onnx import OPSET, quiet
from runtime.errors import HedgeError, one_line


class Chosen(nn.Module):
    """(N, 3, H, W) → the one tensor, of those that a module answers, that is scores or labels.

    output: its key, field or place; needed where there are several.
    """

    def __init__(self, module: nn.Module, output: str | None) -> None:
        super().__init__()
        self.module, self.output = copy.deepcopy(module).eval(), output
        self.float().cpu()  # as images are, wherever and in whatever it was trained

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Images → scores or labels."""
        answer = self.module(image)
        if isinstance(answer, torch.Tensor):
            return answer
        found, called = dict(_tensors(answer)), type(self.module).__name__
        if not found:
            raise HedgeError(
                f"{called}: answers a {type(answer).__name__} that holds no tensor; give a module "
                "around it that answers the scores alone"
            )
        if self.output is None and len(found) == 1:
            return next(iter(found.values()))
        if self.output not in found:
            raise HedgeError(
                f"{called}: answers {', '.join(found)}; say which are the scores: output"
            )
        return found[self.output]


def of_module(module: nn.Module, config: Export) -> Source:
    """A module from float32 (N, 3, H, W) images, run by PyTorch; config.size says H and W."""
    called, size = type(module).__name__, config.size
    if size is None:
        raise HedgeError(f"{called}: takes images of any size; say which: size=(height, width)")
    if isinstance(module, torch.jit.ScriptModule):
        raise HedgeError(
            f"{called}: is TorchScript, which PyTorch's exporter does not take; give the module "
            "that it was made of, or the file that torch.onnx.export(…, dynamo=False) writes"
        )
    try:
        chosen = Chosen(module, config.output)
    except Exception as error:  # its own: a lock in it, a tensor kept with its gradient, …
        raise HedgeError(
            f"{called}: not to be copied and set to eval(): {one_line(error)}; give one made anew, "
            "with its weights loaded"
        ) from error

    @cache
    def opened(batch: int) -> Opened:
        image = torch.zeros(batch, 3, *size)
        try:
            with quiet(), torch.inference_mode():
                chosen(image)
            with quiet():
                program = torch.onnx.export(
                    chosen, (image,), dynamo=True, opset_version=OPSET, verbose=False
                )
        except HedgeError:
            raise
        except Exception as error:  # whatever the module does, and the exporter's own
            cause = error.__cause__ or error  # the exporter's own is a page of advice around it
            raise HedgeError(f"{called}: PyTorch does not export it: {one_line(cause)}") from error
        assert program is not None
        return Opened(called, program.model_proto)

    def run(border: Border) -> Run:
        return chosen

    return Source(called.lower(), called, "PyTorch", run, opened, None, autocasts=True)


def _tensors(answer: object) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a dict, a dataclass or a sequence, by their keys, fields or places."""
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(answer, Mapping):
        parts = answer.items()
    elif dataclasses.is_dataclass(answer):
        parts = ((field.name, getattr(answer, field.name)) for field in dataclasses.fields(answer))
    elif isinstance(answer, Sequence):
        parts = enumerate(answer)
    for name, value in parts:
        if isinstance(value, torch.Tensor):
            yield str(name), value
