"""report.html, report.md and report.json: one folder that says what a run found.

report.html is one file without scripts that it needs, links or requests: its content security
policy forbids every load. All texts of a run are escaped.
"""

from __future__ import annotations

import base64
import hashlib
import math
from pathlib import Path
from typing import Any

import cv2
import jinja2

from benchmarks.gate.judge import Verdict
from benchmarks.report import charts, tables
from benchmarks.report.markdown import to_markdown
from benchmarks.report.names import MISSING, Names, number, percent, proper, shape
from benchmarks.report.sentences import failures, recommended, sentences, verdict
from benchmarks.results import Results, Worst
from runtime import files
from runtime.errors import HedgeError

HERE = Path(__file__).parent
QUALITY = 80  # of the pictures, as WebP


def write(
    results: Results, folder: Path, pictures: Path | None = None, gate: Verdict | None = None
) -> None:
    """Write report.json, then report.md and report.html, each atomically.

    pictures: the folder of ``Worst.picture``, ``folder`` unless said; gate: shown where given.
    """
    files.write_bytes(folder / "report.json", results.to_json())
    files.write_bytes(folder / "report.md", to_markdown(results, gate).encode())
    files.write_bytes(folder / "report.html", to_html(results, pictures or folder, gate).encode())


def to_html(results: Results, pictures: Path, gate: Verdict | None = None) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_said,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (HERE / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    content = _content(results.settled(), pictures)
    return environment.get_template("page.html").render(
        content,
        contents=[(name, title) for name, title in CONTENTS if content[name]],
        gate=gate,
        script=script,
        digest=digest,
        style=(HERE / "page.css").read_text(),
    )


def _said(value: object) -> object:
    """What an expression of the template shows; what is not known is never a blank."""
    missing = value is None or (isinstance(value, float) and not math.isfinite(value))
    return MISSING if missing else value


CONTENTS = (
    ("pareto", "Pareto plot"), ("cells", "all cells"), ("overhead", "overhead"),
    ("distributions", "distributions"), ("arrivals", "at a camera's rate"),
    ("classes", "classes"), ("stages", "video stages"), ("searches", "sensitivity"),
    ("worst", "worst frames"), ("passports", "calibration"),
)  # fmt: skip


def _content(results: Results, pictures: Path) -> dict[str, Any]:
    names, best = Names(results), recommended(results)
    return {
        "results": results,
        "verdict": verdict(results),
        "subject": names.model(best) if best else None,
        "size": shape(best) if best else None,
        "tiles": tables.tiles(best),
        "failures": failures(results),
        "sentences": sentences(results),
        "pareto": charts.pareto(results),
        "legend": charts.legend(results),
        "cells": tables.cells(results),
        "overhead": tables.overhead(results),
        "distributions": charts.distributions(results),
        "arrivals": tables.arrivals(results),
        "classes": charts.classes(results),
        "stages": charts.stages(results),
        "searches": list(charts.searches(results)),
        "worst": [_worst(results, one, pictures) for one in results.worst],
        "passports": tables.passports(results.passports),
        "facts": tables.facts(results.machine),
        "ceilings": [(proper(name), number(value)) for name, value in results.ceilings.items()],
        "minutes": number(results.seconds / 60),
    }


def _worst(results: Results, worst: Worst, pictures: Path) -> dict[str, Any]:
    cell = results.cell(worst.cell)
    return {
        "frame": worst.frame,
        "cell": Names(results).full(cell) if cell else worst.cell,
        "miou": percent(worst.miou),
        "uri": _picture(pictures / worst.picture),
    }


def _picture(path: Path) -> str | None:
    """A picture as a data URI, smaller than its PNG; None where there is none."""
    image = cv2.imread(str(path)) if path.is_file() else None
    if image is None:
        return None
    done, data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    if not done:
        raise HedgeError(f"{path}: no picture that WebP can hold")
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()
