"""Settings that every training has, and the ``config.json`` that keeps them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import tyro

from runtime import cli, files
from runtime.errors import HedgeError, one_line
from runtime.numbers import Count, Seed, check_numbers, settle

CONFIG = "config.json"  # of a run, in its folder
LogName = Literal["mlflow", "wandb"]
Run = TypeVar("Run", bound="RunConfig")


@dataclass(frozen=True, kw_only=True)
class RunConfig(ABC):
    """What every training has: its length, its averaging, its folder, and how it resumes."""

    epochs: Count = 60
    """Passes over the training split."""
    batch: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 8
    """Images a step, over all processes together."""
    ema: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = 0.995
    """Decay of the exponential moving average of the weights, which is validated and kept
    (None: no average)."""
    seed: Seed = 0
    """Decides initial weights, order and augmentation."""
    amp: bool = True
    """Mixed precision: bf16 where the device computes in it; segmentation has FP16 on
    older GPUs."""
    name: str | None = None
    """Name of the run. Default: VARIANT-BACKBONE, or hed-NET."""
    out: Path = Path("runs")
    """Folder of the runs."""
    resumed: Annotated[Path | None, tyro.conf.arg(name="resume", metavar="RUN")] = None
    """Go on with the run of this folder where it stopped. Its options are those it has, but for
    those given beside it: more --epochs, another --patience."""
    force: bool = False
    """Start over, replacing an existing run of this name."""
    until: Annotated[Count | None, tyro.conf.arg(name="stop-after")] = None
    """Stop after this epoch, to be resumed later; the schedule stays that of --epochs."""
    log: tuple[LogName, ...] = ()
    """Also tell the run to mlflow or wandb, each an extra of its own (TensorBoard's files are
    written in any case)."""

    def __post_init__(self) -> None:
        settle(self)
        check_numbers(self)

    @classmethod
    def resume(cls: type[Run], run: Path) -> Run:
        """The settings that the run in this folder goes on with; HedgeError if it holds none."""
        path = run / CONFIG
        try:
            saved: Run = from_builtins(msgspec.json.decode(path.read_bytes()), cls)
        except FileNotFoundError as error:
            raise HedgeError(f"{path}: no such file; --resume takes the folder of a run") from error
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise HedgeError(f"{path}: not the settings of a run: {one_line(error)}") from error
        # Where it lies now, which may be another machine.
        return replace(saved, resumed=run, out=files.named(run).parent, force=False, until=None)

    @classmethod
    def given(cls: type[Run], arguments: Sequence[str]) -> Run | None:
        """What options are that a command line leaves out; None: their defaults. See ``cli.parse``.

        HedgeError if it resumes what is no run.
        """
        run = cli.argument(arguments, "--resume")
        return cls.resume(Path(run)) if run is not None else None

    @property
    @abstractmethod
    def default_name(self) -> str:
        """The run's name where none is given."""

    @property
    def run(self) -> Path:
        """The folder of this run."""
        if self.resumed:
            return files.named(self.resumed)
        return self.out / (self.name or self.default_name)

    @property
    def last_epoch(self) -> int:
        """The epoch that this command ends with."""
        return min(self.until or self.epochs, self.epochs)


def to_builtins(config: object) -> Any:
    """A config as JSON-ready dicts, lists, strings and numbers."""
    return msgspec.to_builtins(config, enc_hook=str)


def from_builtins(data: object, kind: type) -> Any:
    """The config of type ``kind`` from what ``to_builtins`` made; ValueError if it does not fit."""
    value: Any = msgspec.convert(
        data, kind, dec_hook=lambda type_, value: type_(value), strict=False
    )
    # msgspec sets only the fields in ``data``; ``to_builtins`` would leave out the others.
    return replace(value) if is_dataclass(value) and not isinstance(value, type) else value
