"""What the doctor found, as tables of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table

from runtime import machine
from runtime.backends.registry import BACKENDS
from runtime.bundle.golden import Golden
from runtime.bundle.manifest import Manifest
from runtime.doctor.here import Library, Machine, Missing
from runtime.doctor.trial import Trial


def machine_table(here: Machine, libraries: Sequence[Library]) -> Table:
    """The machine, and the libraries that are installed."""
    grid = Table(title="machine", box=box.ROUNDED, show_header=False, title_justify="left")
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    features = " ".join(here.features) or "not told"
    grid.add_row("system", f"{here.system}, Python {here.python}")
    grid.add_row("CPU", f"{here.cpu}, {here.cores} cores for this process")
    grid.add_row("features", features)
    grid.add_row("memory", f"{here.memory_gib:.1f} GiB")
    gpus = ", ".join(here.gpus)
    grid.add_row("NVIDIA GPU", f"{gpus}, driver {here.driver}" if gpus else "none")
    installed = [f"{row.name} {row.version}" for row in libraries if row.version]
    grid.add_row("libraries", ", ".join(installed))
    return grid


def engine_table(trials: Sequence[Trial], manifest: Manifest) -> Table:
    """A row for each engine on each device."""
    golden = manifest.golden
    table = Table(title=manifest.name, box=box.ROUNDED, title_justify="left")
    table.add_column("engine", overflow="fold")
    table.add_column("device", overflow="fold")
    table.add_column("answers", no_wrap=True)
    table.add_column("agrees %" if golden else "alike %", justify="right", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("computes", no_wrap=True)
    for trial in trials:
        share = trial.agreement if golden else trial.alike
        table.add_row(
            trial.backend,
            trial.device,
            "works" if trial.works else "refused" if trial.refused else "fails",
            "–" if share is None else f"{100 * share:.2f}",
            "–" if trial.ms is None else f"{trial.ms:.1f}",
            trial.computes or "–",
        )
    table.caption = (
        f"agrees: with PyTorch's labels of the bundle's {golden.frames} golden frames "
        f"({golden.data}); asked: {_bounds(golden)}"
        if golden
        else "no golden frames in this bundle: engines are compared with the first, on a "
        "generated frame, which shows gross faults alone; export again to have some"
    )
    table.caption_justify = "left"
    return table


def _bounds(golden: Golden) -> str:
    """``67.03 % in int8``: without them, a share says nothing of the engine."""
    return ", ".join(f"{100 * share:.2f} % in {name}" for name, share in golden.bounds.items())


def lines(
    trials: Sequence[Trial], silent: dict[str, str], missing: Sequence[Missing], manifest: Manifest
) -> Iterator[str]:
    """A line for each that stands beside the tables; silent: backends that do not start, why."""
    for trial in trials:
        name = f"{trial.backend} on {trial.device}"
        if trial.error:
            yield f"{name}: {trial.error}"
        elif trial.int8 is not None and manifest.precision == "int8":
            share = f"{100 * trial.int8:.1f} % of the multiply-adds computed in INT8"
            yield f"{name}: INT8 asked, {share}"
    for backend, error in silent.items():
        yield f"{backend}: {error}"
    if not machine.gpus():
        names = " and ".join(name for name, row in BACKENDS.items() if row.device == "cuda")
        yield f"{names}: need an NVIDIA GPU, none here"
    for thing in missing:
        yield f"missing: {thing.name}; {thing.fix}"
