"""``python -m benchmarks.gpu``: everything that is measured on an NVIDIA GPU, in one command."""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import cv2
import msgspec

from benchmarks.cells.engine import Scene
from benchmarks.cells.process import LostError
from benchmarks.cells.worker import to_json
from benchmarks.report.markdown import ruled
from benchmarks.report.numbers import number
from benchmarks.report.terminal import table
from benchmarks.studies.gpu_steps import KINDS, Figures, Kind, Place, Step, steps
from runtime import cli, files
from runtime.bundle.manifest import BUNDLES
from runtime.bundle.shipped import find_bundle
from runtime.doctor import here, page, trial
from runtime.doctor.here import Library, Machine
from runtime.errors import EXIT_OK, GateError, HedgeError
from runtime.interrupt import check_interrupt
from runtime.machine import version
from runtime.numbers import Threads
from runtime.outputs.checks import check_outputs

LEAST_S = 10.0  # that a step must have left to be begun
FILES = ("gpu.md", "gpu.json")
State = Literal["done", "failed", "not here", "not reached"]


@dataclass(frozen=True)
class Gpu:
    """Measure everything on a machine with an NVIDIA GPU, the most telling first: the shipped
    bundle's golden frames, engines in INT8 and FP16 with and without CUDA graphs, PyTorch's ways
    on the same GPU, decoding, the whole pipeline, training.

    Models have random weights. Each step has a process and a time limit of its own, and what was
    found is on disk after every step: gpu.json and gpu.md. What cannot run here is a row with its
    reason; without a GPU a CPU engine stands in, so that the command can be tried anywhere. Exit
    code 0 when no step failed, also where the time ended before the last, 4 when one did.

    Examples:

    hedge gpu --minutes 8

    hedge gpu --steps export
    """

    minutes: Annotated[float, msgspec.Meta(gt=0)] = 8.0
    """Time to spend; a step that would begin later is left out."""
    sizes: tuple[str, ...] = ("512x1024", "1024x2048")
    """HEIGHTxWIDTH of the networks' inputs, one or two."""
    steps: tuple[Kind, ...] = KINDS
    """Which of them; "export" alone writes the bundles, before the GPU is at hand."""
    threads: Threads = 0
    """CPU threads of engines and of PyTorch; 0 leaves the choice to the library."""
    quick: bool = False
    """A try of the command itself: measurements too short to be believed."""
    bundles: Path = BUNDLES / "gpu"
    """Folder of the models and of the drawn videos, which are made where they are missing."""
    out: Path = Path("reports")
    """Folder of gpu.json and gpu.md."""

    def __post_init__(self) -> None:
        if not self.steps or not 1 <= len(self.sizes) <= 2:
            raise HedgeError("--steps names at least one, --sizes one or two")
        for text in self.sizes:
            if not re.fullmatch(r"\d{2,4}x\d{2,4}", text) or min(map(int, text.split("x"))) < 32:
                raise HedgeError(f"--sizes {text}: write HEIGHTxWIDTH, at least 32x32")


@dataclass(frozen=True)
class Row:
    """What became of a step; reason: why it has no more figures; names tell their units."""

    kind: Kind
    step: str
    state: State = "not reached"
    figures: Figures = field(default_factory=dict)
    seconds: float = 0.0
    reason: str | None = None


@dataclass(frozen=True)
class Findings:
    """What gpu.json holds."""

    machine: Machine
    libraries: list[Library]
    rows: list[Row]
    seconds: float
    quick: bool
    interrupted: bool = False


def main(config: Gpu) -> int:
    """The command; its exit code."""
    start = time.perf_counter()
    check_outputs([config.out / name for name in FILES], None, [], force=True)
    config.bundles.mkdir(parents=True, exist_ok=True)
    machine = here.this_machine()
    libraries = [*here.libraries(), Library("torch", version("torch"))]
    cli.out.print(page.machine_table(machine, libraries))
    with tempfile.TemporaryDirectory() as folder:
        planned = [
            step for step in steps(_place(config, Path(folder))) if step.kind in config.steps
        ]
        rows = [Row(step.kind, step.name) for step in planned]
        found = Findings(machine, libraries, rows, 0.0, config.quick)
        try:
            for at, step in enumerate(planned):
                cli.say(f"{at + 1}/{len(planned)} {step.name}", cli.err)
                left = 60 * config.minutes - (time.perf_counter() - start)
                found.rows[at] = _done(step, found.rows[at], left)
                found = replace(found, seconds=time.perf_counter() - start)
                _write(found, config.out)
                check_interrupt()
        except KeyboardInterrupt:
            _write(replace(found, interrupted=True), config.out)
            cli.out.print(table(_lines(found)))
            raise
    cli.out.print(table(_lines(found)))
    cli.say(f"→ {config.out}/gpu.json, gpu.md")
    failed = [row.step for row in found.rows if row.state == "failed"]
    if failed:
        return cli.fail(f"{len(failed)} failed: {'; '.join(failed)}", GateError.exit_code)
    return EXIT_OK


def _place(config: Gpu, scratch: Path) -> Place:
    sizes = [tuple(map(int, text.split("x"))) for text in config.sizes]
    return Place(
        sizes=[(height, width) for height, width in sizes],
        shipped=find_bundle(Path("street19")),
        frames=_frames(scratch),
        out=config.bundles.absolute(),
        scratch=scratch,
        threads=config.threads,
        seconds=0.1 if config.quick else 2.0,
        batch=2 if config.quick else 16,
        video=8 if config.quick else 120,
    )


def _frames(folder: Path) -> Path:
    """Pictures for all cells: soft patches of random colours."""
    images = trial.generated((8, 360, 640, 3))
    scenes = [Scene(str(at), folder / f"{at}.png") for at in range(len(images))]
    for scene, image in zip(scenes, images, strict=True):
        cv2.imwrite(str(scene.image), image)
    files.write_bytes(folder / "frames.json", to_json(scenes))
    return folder / "frames.json"


def _done(step: Step, row: Row, left: float) -> Row:
    """Run a step within its limit and within the seconds that are left; its figures fill
    ``row``'s as they come, for an interruption finds them there."""
    start = time.perf_counter()
    if step.missing:
        return replace(row, state="not here", reason=step.missing)
    if left < LEAST_S:
        return replace(row, reason="the time was over")
    try:
        step.run(row.figures, min(step.limit, left))
        row = replace(row, state="done")
    except (LostError, HedgeError, OSError) as error:
        row = replace(row, state="failed", reason=str(error))
    return replace(row, seconds=time.perf_counter() - start)


def _write(found: Findings, out: Path) -> None:
    place = found.machine
    driver = f"driver {place.driver}" if place.driver else "no NVIDIA driver"
    libraries = [f"{row.name} {row.version}" for row in found.libraries if row.version]
    about = ", ".join([*place.gpus, driver, place.cpu, *libraries])
    ended = ", interrupted" if found.interrupted else ""
    notes = f"{about}; {found.seconds:.0f} s{ended}; random weights, medians of synchronised calls"
    files.write_bytes(out / "gpu.md", f"{ruled(_lines(found))}\n\n{notes}\n".encode())
    files.write_bytes(out / "gpu.json", msgspec.json.format(msgspec.json.encode(found)) + b"\n")


def _lines(found: Findings) -> list[list[str]]:
    """The table, head first."""
    lines = [["step", "state", "found", "s"]]
    for row in found.rows:
        figures = [
            f"{name} {value if isinstance(value, str) else number(value)}"
            for name, value in row.figures.items()
        ]
        said = ", ".join([*figures, *([row.reason] if row.reason else [])])
        lines.append([row.step, row.state, said or "–", f"{row.seconds:.0f}"])
    return lines


if __name__ == "__main__":
    cli.run(Gpu, main, "python -m benchmarks.gpu")
