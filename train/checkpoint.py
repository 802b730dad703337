"""Checkpoints: written atomically, checked by a digest, read without unpickling objects."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn import functional

from runtime import cli, files
from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError, OutputError
from train.config import SHIPPED, ModelConfig, TrainConfig
from train.loop.settings import from_builtins, to_builtins

FORMAT = "hedge-checkpoint-1"
RUNS = Path("runs")
PREVIOUS = "previous.pt"  # beside last.pt: the one before it, for where that is damaged
_SIDES = range(1, 1 << 14)
# A gate's tensors, where it and a layer are a pair: before a ResNet's convolution, behind a stage
_GATE = re.compile(r"(backbone\..+)\.([01])\.(?:reduce|expand)\.")

T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with all that is needed to use it and to continue training it.

    weights: state dict of the network; size: (H, W) it was validated at; epoch, step: finished
    ones; miou: of this epoch on the validation split, in 0..1; training: optimizer and schedule
    state, only in ``last.pt``; path: the file it was read from; license: terms of the weights.
    Raises ValueError for values that no training writes.
    """

    config: TrainConfig
    model: ModelConfig
    classes: ClassSet
    size: tuple[int, int]
    weights: dict[str, torch.Tensor]
    epoch: int
    step: int
    miou: float
    training: dict[str, Any] = field(default_factory=dict)
    path: Path | None = field(default=None, compare=False)
    license: str | None = None

    def __post_init__(self) -> None:
        if self.model.num_classes != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes, but {self.model.num_classes} outputs")
        if not all(side in _SIDES for side in self.size):
            raise ValueError(f"size {self.size}")
        if not all(rate in _SIDES for rate in self.model.atrous_rates):
            raise ValueError(f"atrous rates {self.model.atrous_rates}")

    def save(self, path: Path) -> None:
        """Write atomically: a crash leaves the previous checkpoint in place.

        With training state, what was at ``path`` is kept as ``previous.pt``; see ``last_good``.
        """
        content = {
            "format": FORMAT,
            "config": to_builtins(self.config),
            "model": to_builtins(self.model),
            "classes": to_builtins(self.classes),
            "size": list(self.size),
            "weights": self.weights,
            "epoch": self.epoch,
            "step": self.step,
            "miou": self.miou,
            "training": self.training,
            "license": self.license,
        }
        write_tensors(path, content, keep=bool(self.training))

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a Hedge checkpoint to the CPU; HedgeError says why a file is none."""
        content = read_tensors(path)
        if content.get("format") != FORMAT:
            raise HedgeError(
                f"{path}: not a Hedge checkpoint (format {content.get('format')!r}); "
                "train one: python -m train"
            )
        if "digest" not in content:
            cli.warn(f"{path}: of an earlier version, which wrote no digest to check it by")
        try:
            return cls(
                config=from_builtins(content["config"], TrainConfig),
                model=from_builtins(content["model"], ModelConfig),
                classes=from_builtins(content["classes"], ClassSet),
                size=from_builtins(content["size"], tuple[int, int]),
                weights=_state(content["weights"]),
                epoch=from_builtins(content["epoch"], int),
                step=from_builtins(content["step"], int),
                miou=from_builtins(content["miou"], float),
                training=dict(content["training"]),
                path=path,
                license=from_builtins(content.get("license") or "", str) or None,
            )
        except Exception as error:  # a file from anywhere may hold anything
            raise HedgeError(f"{path}: damaged checkpoint: {_line(error)}") from error


def last_good(path: Path, load: Callable[[Path], T]) -> T:
    """What ``load`` reads from ``path``, or from the checkpoint before it if that is damaged."""
    try:
        return load(path)
    except HedgeError as error:
        previous = path.with_name(PREVIOUS)
        if not previous.exists():
            raise
        loaded = load(previous)
        cli.warn(f"{error}; {previous} is taken instead")
        return loaded


def load_state(path: Path) -> dict[str, torch.Tensor]:
    """A state dict, as it is or as trainings wrap it, or the weights of a Hedge checkpoint; no code
    of the file is run."""
    content = read_tensors(path)
    try:
        return _state(content["weights"] if content.get("format") == FORMAT else _bare(content))
    except (KeyError, ValueError) as error:
        raise HedgeError(f"{path}: {_line(error)}") from error


def _bare(content: dict[str, Any]) -> dict[str, Any]:
    """The state dict in a file of another training: beside its epoch and its optimizer
    ({"state_dict": …}), behind DataParallel's prefix; ``content`` itself where it is none of these.
    """
    inner = {} if "format" in content else {k: v for k, v in content.items() if _is_state(v)}
    if len(inner) > 1:
        raise ValueError(f"it holds several state dicts ({', '.join(map(str, inner))}); save one")
    state = next(iter(inner.values()), content)
    if all(isinstance(key, str) and key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _is_state(value: Any) -> bool:
    pairs = value.items() if isinstance(value, dict) else ()
    return bool(pairs) and all(isinstance(k, str) and torch.is_tensor(v) for k, v in pairs)


def _state(value: Any) -> dict[str, torch.Tensor]:
    """``value`` if it is a state dict, half precision made FP32; else ValueError."""
    if not _is_state(value):
        raise ValueError("it holds no state dict (names with tensors)")
    pairs = value.items()
    if odd := [name for name, tensor in pairs if not torch.isfinite(tensor).all()]:
        raise ValueError(f"{odd[0]} holds values that are not finite")
    return {k: v.float() if v.dtype is torch.float16 else v for k, v in pairs}


def start_from(model: nn.Module, path: Path) -> None:
    """Load every tensor of a checkpoint that fits; HedgeError unless all of the backbone's do, but
    for its Squeeze-Excitation.

    Weights of additional input channels (edges, which come last) are set to zero.
    """
    state, own = load_state(path), model.state_dict()
    given = {plain: state[name] for name, plain in _without_gates(state).items()}
    names = _without_gates(own)
    fitting = {
        name: _widened(given[names[name]], tensor)
        for name, tensor in own.items()
        if names[name] in given and _fits(tensor, given[names[name]])
    }
    backbone = {name for name in own if name.startswith("backbone.") and not _in_gate(name)}
    if not backbone <= fitting.keys():
        raise HedgeError(f"{path}: its backbone is another; train with the same --backbone")
    model.load_state_dict(fitting, strict=False)


def _without_gates(names: Iterable[str]) -> dict[str, str]:
    """Each name → what it is in a backbone without Squeeze-Excitation, where a layer is not one of
    two with its gate."""
    pairs = {match[1]: match[2] for name in names if (match := _GATE.match(name))}
    inner = {f"{pair}.{1 - int(place)}.": f"{pair}." for pair, place in pairs.items()}
    plain = {}
    for name in names:
        layer = next((layer for layer in inner if name.startswith(layer)), "")
        plain[name] = inner.get(layer, "") + name.removeprefix(layer)
    return plain


def _in_gate(name: str) -> bool:
    return bool(_GATE.match(name)) or ".squeeze_excite." in name


def _fits(own: torch.Tensor, given: torch.Tensor) -> bool:
    if own.ndim != 4 or given.ndim != 4:
        return own.shape == given.shape
    same = (own.shape[0], *own.shape[2:]) == (given.shape[0], *given.shape[2:])
    return same and own.shape[1] >= given.shape[1]


def _widened(given: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    if given.shape == own.shape:
        return given
    return functional.pad(given, (0, 0, 0, 0, 0, own.shape[1] - given.shape[1]))


def find_checkpoint(run: Path | None) -> Path:
    """``best.pt`` of a run folder, a checkpoint file itself, or by default the newest run's.

    Where there is no such path, the shipped checkpoint of that name ("street19").
    """
    run = run or files.newest(RUNS, "best.pt", "train a model first: python -m train")
    if not run.exists() and (shipped := SHIPPED / f"{run}.pt").is_file():
        return shipped
    path = run / "best.pt" if run.is_dir() else run
    if not path.is_file():
        raise HedgeError(f"{path}: no such checkpoint; train one: python -m train")
    return path


def write_tensors(path: Path, content: dict[str, Any], keep: bool = False) -> None:
    """Write a dict of tensors and plain values atomically; OutputError where it does not fit.

    A dict with a "format" gets a digest; a bare state dict stays one, and has the CRCs of its file.
    keep: what was at ``path`` becomes ``previous.pt`` beside it.
    """
    if "format" in content:
        content = content | {"digest": _digest(content)}
    with files.atomic_path(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # all that torch says of a full disk
            raise OutputError(f"{path}: could not be written; is the disk full?") from error
        if keep:
            path.with_name(PREVIOUS).unlink(missing_ok=True)
            with suppress(OSError):  # nothing there, or a file system without links
                os.link(path, path.with_name(PREVIOUS))


def read_tensors(path: Path) -> dict[str, Any]:
    """A dict of tensors and plain values, on the CPU, whole; HedgeError names any other file."""
    try:
        if zipfile.is_zipfile(path):
            _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise HedgeError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
        _check_sizes(content, path.stat().st_size)
        same = "digest" not in content or content["digest"] == _digest(content)
    except FileNotFoundError as error:
        raise HedgeError(f"{path}: no such file") from error
    except pickle.UnpicklingError as error:
        cause = "damaged, or a pickle that would run code; of a network, save its state_dict()"
        if path.suffix == ".caffemodel":
            cause = "Caffe's; take the same weights as PyTorch's, such as network-bsds500.pytorch"
        raise HedgeError(f"{path}: not a plain tensor file ({cause})") from error
    except HedgeError:
        raise
    except Exception as error:  # parsers of damaged files raise a dozen types
        raise HedgeError(f"{path}: unreadable checkpoint: {_line(error)}") from error
    if not same:
        raise HedgeError(f"{path}: damaged: its tensors do not match their digest; copy it again")
    return content


def _check_sums(path: Path) -> None:
    """Raise HedgeError unless every part has its CRC, which PyTorch does not check."""
    with zipfile.ZipFile(path) as parts:
        # A small file could unpack to more than the memory holds; PyTorch packs nothing.
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
            raise HedgeError(f"{path}: compressed, as PyTorch saves none; save it again")
        if (part := parts.testzip()) is not None:
            raise HedgeError(f"{path}: damaged: {part} does not match its CRC; copy it again")


def _check_sizes(value: Any, room: int) -> None:
    """Raise ValueError for a tensor that claims more bytes than the whole file has."""
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided or value.is_quantized:
            raise ValueError("it holds a tensor that is not dense")
        if value.numel() * value.element_size() > room:
            raise ValueError(f"a tensor of {tuple(value.shape)} in a file of {room} bytes")
    elif isinstance(value, dict):
        for item in value.values():
            _check_sizes(item, room)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_sizes(item, room)


def _digest(content: dict[str, Any]) -> str:
    """SHA-256 over every key, plain value and tensor (its dtype, shape and bytes) but itself."""
    digest = hashlib.sha256()
    _feed(digest.update, {key: value for key, value in content.items() if key != "digest"})
    return digest.hexdigest()


def _feed(update: Callable[[Any], None], value: Any) -> None:
    if isinstance(value, torch.Tensor):
        update(f"{value.dtype} {tuple(value.shape)}".encode())
        update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
    elif isinstance(value, dict):
        update(f"{{{len(value)}".encode())
        for key, item in value.items():
            update(repr(key).encode())
            _feed(update, item)
    elif isinstance(value, (list, tuple)):
        update(f"[{len(value)}".encode())
        for item in value:
            _feed(update, item)
    else:
        update(repr(value).encode())


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
