"""Check a data set: ``python -m train.check`` decodes every image, label and edge map.

Nothing is changed.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Column, Table
from rich.text import Text

from runtime import cli
from runtime.bundle.classes import IGNORE
from runtime.errors import EXIT_OK, HedgeError
from runtime.outputs import sheet
from runtime.outputs.checks import check_outputs
from runtime.outputs.json_files import write_report
from train.datasets import disagreements
from train.datasets.audit import SPLITS, Findings, Size, SplitReport, audit, size_text

_SHOWN = 3  # files of each problem, unless all are asked for


@dataclass(frozen=True)
class Check:
    """List every problem of a data set; exit code 0 without problems, 2 with some.

    Examples:

    python -m train.check data/camvid

    python -m train.check data/camvid --with bundles/mycamera-int8
    """

    data: Annotated[Path, tyro.conf.Positional]
    """A data set folder, a list file, or a zip of a labelling tool."""
    model: Annotated[Path | None, tyro.conf.arg(name="with", metavar="BUNDLE")] = None
    """List the images and regions where this bundle (or street19) most surely disagrees with the
    labels, the worst first: there labels may be wrong. Classes are matched by name."""
    sheet: Path = Path("disagreements.png")
    """With --with: picture of the worst images, with labels, predictions and disagreements."""
    json: Path | None = None
    """Write the findings to this file."""
    all: bool = False
    """Show all files of each problem, not only the first three."""


def show(findings: Findings, everything: bool) -> None:
    """Print a summary of the splits, the warnings, and the problems with their files."""
    cli.out.print(_summary(findings.splits))
    for warning in findings.warnings:
        cli.warn(warning)
    if not findings.faults:
        cli.say(f"{findings.data}: nothing wrong")
        return
    root = f"{findings.splits[SPLITS[0]].index.root}{os.sep}"  # said once above, not in each row
    table = Table("problem", Column("count", justify="right"), Column("where", overflow="fold"))
    for problem, faults in findings.by_problem().items():
        shown = faults if everything else faults[:_SHOWN]
        lines = [str(fault).replace(root, "") for fault in shown]
        if len(shown) < len(faults):
            lines.append(f"... and {len(faults) - len(shown)} more (--all)")
        table.add_row(problem.value, str(len(faults)), Text("\n".join(lines)), end_section=True)
    cli.say(f"{findings.data}: {len(findings.faults)} problems")
    cli.out.print(table)


def _summary(reports: dict[str, SplitReport]) -> Table:
    layout = reports[SPLITS[0]].index.layout
    table = Table(layout, *(Column(split, justify="right") for split in reports))
    splits = reports.values()
    table.add_row("images", *(str(len(report.index)) for report in splits))
    table.add_row("sizes", *(_sizes(report.sizes) for report in splits), end_section=True)
    shares = [report.shares() for report in splits]
    for name in dict.fromkeys(name for share in shares for name in share):
        if any(share.get(name) for share in shares) or len(shares[0]) <= IGNORE:
            table.add_row(Text(name), *(f"{share.get(name, 0):.2%}" for share in shares))
    return table


def _compared(bundle: Path, findings: Findings, picture: Path) -> list[dict[str, Any]]:
    """Show where a bundle and the labels differ; what ``--json`` says of it."""
    indexes = [report.index for report in findings.splits.values()]
    worst = disagreements.found(bundle, indexes)
    cli.out.print(disagreements.table(worst))
    if worst:
        sheet.save(disagreements.picture(worst, indexes[0].classes), picture)
        cli.say(f"→ {picture}")
    return [disagreements.as_json(each) for each in worst]


def _sizes(sizes: Counter[Size]) -> str:
    common = sizes.most_common(_SHOWN)
    rest = [f"{len(sizes) - len(common)} more sizes"] if len(sizes) > len(common) else []
    return "\n".join([f"{size_text(size)}: {count}" for size, count in common] + rest)


def main(config: Check) -> int:
    """Check, print, write the JSON file if asked for; the exit code."""
    outputs = [config.json] if config.json else []
    outputs += [config.sheet] if config.model else []
    check_outputs(outputs, None, [config.data], force=True)
    findings = audit(config.data)
    show(findings, config.all)
    found = findings.to_json()
    if config.model and findings.faults:
        cli.warn(f"not compared with {config.model}: mend the problems first")
    elif config.model:
        found["disagreements"] = _compared(config.model, findings, config.sheet)
    if config.json:
        write_report(config.json, found)
    return HedgeError.exit_code if findings.faults else EXIT_OK


if __name__ == "__main__":
    cli.run(Check, main, "python -m train.check")
