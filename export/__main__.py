"""``python -m export``: checkpoint → verified bundle → engine, models for Triton and DeepStream."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from export import LIBRARIES
from export.config import Export
from export.serving import triton
from runtime import cli
from runtime.backends import trt
from runtime.backends.trt_cache import BuildOptions
from runtime.bundle.golden import FOLDER
from runtime.bundle.manifest import FILE_NAME, MODEL, Manifest, newest_bundle
from runtime.bundle.measured import int8_share, known
from runtime.errors import HedgeError


def main(config: Export) -> None:
    """The command."""
    wanted = config.engine or config.triton or config.deepstream
    told = config.of_exporting()
    if config.run is not None and (config.run / FILE_NAME).is_file():
        if told or not wanted:
            option = f"--{told[0].replace('_', '-')} is for a run" if told else "give a run"
            raise HedgeError(
                f"{config.run}: a bundle, which is exported already: {option}; a bundle is for "
                "--engine, --triton and --deepstream"
            )
        _deliver(config, config.run)
        return
    if wanted and config.run is None and not told:
        _deliver(config, newest_bundle(config.out))
        return
    # The box that builds its engine has no torch, so what needs it comes no earlier.
    cli.require(LIBRARIES, "export")
    from export.exporter import Bundle, publish

    def deliver(bundle: Bundle) -> None:
        cli.out.print(_table(bundle.manifest, bundle.path))
        _deliver(config, bundle.path)

    publish(config, on_bundle=deliver)


def _deliver(config: Export, bundle: Path) -> None:
    """What else was asked for of a bundle: engines, models for Triton and DeepStream."""
    if config.engine:
        options = BuildOptions(config.workspace, config.optimization_level, config.max_batch)
        targets = config.target.split(",") if config.target else ()
        for path in trt.build(bundle, config.engine, targets, options):
            _print_file(path)
    if config.triton:
        for path in triton.write(bundle, config.triton, config.force):
            _print_file(path)
    if config.deepstream:
        cli.require(("onnx",), "export")
        from export.serving import deepstream

        for path in deepstream.write(bundle, config.deepstream, config.force):
            _print_file(path)


def _print_file(path: Path) -> None:
    cli.say(f"{path}  ({path.stat().st_size / 1e6:.1f} MB)")


def _table(manifest: Manifest, target: Path) -> Table:
    measured = manifest.measured
    sizes = [(target / name).stat().st_size for name in {MODEL, *manifest.graphs.values()}]
    megabytes = " + ".join(f"{size / 1e6:.1f}" for size in sizes)
    title = f"{target}  ({megabytes} MB)"
    if fastest := measured.fastest:
        title += f"  {fastest.precision} is the fastest here, in {fastest.backend}"
    table = Table(title=title, title_justify="left")
    int8 = ["computed in INT8 %"] if measured.arithmetic else []
    for column in (
        "engine",
        "mIoU %",
        f"labels equal to {measured.reference} %",
        *int8,
        "ms a frame",
    ):
        table.add_column(column, justify="left" if column == "engine" else "right")
    latency = {name: f"{times['p50']:.1f}" for name, times in measured.latency_ms.items()}
    trained = _percent(known(measured.miou_pytorch))
    table.add_row(f"{measured.reference} FP32", trained, "", *[""] * len(int8), latency["pytorch"])
    for backend, miou in measured.miou_by_backend.items():
        name = f"{backend} {manifest.precision}"
        if measured.computes[backend] == "bf16":
            name += " in bf16"
        agreement = _percent(measured.agreement[backend], digits=3)
        counts = measured.arithmetic.get(backend, {})
        share = [_percent(int8_share(counts), digits=1)] * len(int8)
        table.add_row(name, _percent(miou), agreement, *share, latency[backend])
    table.caption = f"{measured.images} frames of {measured.data} ({measured.split})"
    if golden := manifest.golden:
        kilobytes = sum(path.stat().st_size for path in (target / FOLDER).iterdir()) / 1e3
        table.caption += (
            f"; carries {golden.frames} golden frames of {golden.data}, {kilobytes:.0f} kB"
        )
    return table


def _percent(share: float | None, digits: int = 2) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f}"


if __name__ == "__main__":
    cli.run(Export, main, "python -m export")
