"""python -m runtime.doctor: what is here, what works, how fast, what is missing."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from runtime import cli
from runtime.backends.registry import BACKENDS, installed_backends
from runtime.bundle.manifest import Manifest
from runtime.bundle.shipped import find_bundle
from runtime.doctor import decoding, here, page, trial
from runtime.doctor.decoding import Decoding
from runtime.doctor.here import Library, Machine, Missing
from runtime.doctor.trial import Trial
from runtime.errors import EXIT_OK, GateError, HedgeError
from runtime.numbers import Threads
from runtime.outputs.checks import check_outputs
from runtime.outputs.json_files import write_report

ALIKE = 0.8  # of a generated frame's pixels: below, one of two engines may be wrong


@dataclass(frozen=True)
class Doctor:
    """Tell what this machine is, which engines and devices run a bundle here, whether they answer
    its golden frames as PyTorch did, how fast, what they compute in INT8, what decodes video, and
    what is missing.

    Every library is tried in a process of its own, so that one that crashes is a line. Exit code 0
    when an engine works, 4 when the golden frames refuse all that start, 2 when none starts.

    Examples:

    hedge doctor

    hedge doctor --bundle street19 --json doctor.json
    """

    bundle: Path | None = None
    """Folder of the bundle, or street19, the shipped model. Default: the newest bundle under
    bundles/, else the shipped model."""
    threads: Threads = 0
    """CPU threads of each engine; 0 leaves the choice to the library."""
    json: Path | None = None
    """File for all that was found."""


@dataclass(frozen=True)
class Findings:
    """What ``--json`` holds; engines: each library on each device; silent: libraries that do not
    start, and why; decoders: hardware that may decode video."""

    machine: Machine
    libraries: list[Library]
    bundle: str
    engines: list[Trial]
    silent: dict[str, str]
    decoders: list[Decoding]
    missing: list[Missing]


def main(config: Doctor) -> int:
    """The command; its exit code, or a HedgeError with one."""
    check_outputs([config.json] if config.json else [], None, [], force=True)
    machine, libraries = here.this_machine(), here.libraries()
    cli.out.print(page.machine_table(machine, libraries))
    bundle = find_bundle(config.bundle)
    manifest = Manifest.load(bundle)
    devices: dict[str, list[str]] = {}
    silent: dict[str, str] = {}
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as folder:
        for backend in installed_backends():
            with cli.err.status(f"trying {backend}"):
                found, tried = trial.run(bundle, backend, config.threads, Path(folder))
            trials += tried
            devices[backend] = found.devices
            if found.error:
                silent[backend] = found.error
        trials = trial.compared(trials, Path(folder))
        with cli.err.status("trying decoders"):
            decoders = decoding.run(Path(folder))
    missing = here.missing(devices)
    if trials:
        cli.out.print(page.engine_table(trials, manifest))
    for line in page.lines(trials, silent, missing, manifest):
        cli.say(line)
    cli.say(decoding.line(decoders))
    if config.json:
        findings = Findings(machine, libraries, str(bundle), trials, silent, decoders, missing)
        write_report(config.json, findings)
    return _verdict(trials, bundle)


def _verdict(trials: list[Trial], bundle: Path) -> int:
    """0 where an engine works; the error that tells why none does."""
    working = [one for one in trials if one.works]
    if not working and any(one.refused for one in trials):
        raise GateError(f"{bundle}: its golden frames refuse every engine that starts here")
    if not working:
        extras = [row.extra for row in BACKENDS.values() if row.device == "cpu"]
        raise HedgeError(f"no engine works here: pip install 'hedge-seg[{','.join(extras)}]'")
    for one in working:
        if one.agreement is None and one.alike is not None and one.alike < ALIKE:
            first = f"{working[0].backend} on {working[0].device}"
            share = f"label {100 * one.alike:.1f} % of a generated frame alike"
            cli.warn(f"{one.backend} on {one.device} and {first} {share}: one may be wrong")
    best = min(working, key=lambda one: one.ms or 0.0)
    cli.say(
        f"{len(working)} of {len(trials)} engines work; fastest here: {best.backend} on "
        f"{best.device}, {best.ms:.1f} ms a batch"
    )
    return EXIT_OK


if __name__ == "__main__":
    cli.run(Doctor, main, "python -m runtime.doctor")
