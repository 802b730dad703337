"""report.html, report.md and report.json: one folder that says what a run found.

report.html is one file without scripts that it needs, links or requests: its content security
policy forbids every load. All texts of a run are escaped.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import jinja2

from benchmarks.gate.judge import Verdict
from benchmarks.report import charts, numbers, sentences
from benchmarks.report.markdown import to_markdown
from benchmarks.report.rows import shape
from benchmarks.report.sentences import Words
from benchmarks.report.tables import Tables, tabulate
from benchmarks.report.view import TAIL, View, derive
from benchmarks.results import STAGES, Fact, Results
from runtime import files
from runtime.errors import HedgeError

HERE = Path(__file__).parent
FILES = ("report.json", "report.md", "report.html")
QUALITY = 80  # of the pictures, as WebP
DIGITS = 12  # of a sha256 that are shown; report.json has all
BARE = {
    TAIL: "the library and our label tail: the same answer, what our code costs",
    "whole graph": "labels made inside the library: the same answer, what our label tail gains",
    "loop": "the library alone: ends with scores, so it does less",
    "benchmark_app": "the library's own program: ends with scores, in rounds of its own",
    "trtexec": "the library's own program, in rounds of its own",
}  # the ways of benchmarks.cells.bare_library, equals first


def write(
    results: Results, folder: Path, pictures: Path | None = None, gate: Verdict | None = None
) -> View:
    """Write report.json, then report.md and report.html, each atomically; what they tell.

    pictures: the folder of ``Worst.picture``, ``folder`` unless said; gate: shown where given.
    """
    view = derive(results)
    words, tables = sentences.words(view), tabulate(view)
    contents = (
        results.to_json(),
        to_markdown(words, tables, gate).encode(),
        to_html(view, words, tables, pictures or folder, gate).encode(),
    )
    for name, content in zip(FILES, contents, strict=True):
        files.write_bytes(folder / name, content)
    return view


def to_html(
    view: View, words: Words, tables: Tables, pictures: Path, gate: Verdict | None = None
) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_known,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(numbers, name)
        for name in ("number", "percent", "times", "signed", "span", "proper", "said")
    }
    script = (HERE / "page.js").read_text("utf-8")
    return environment.get_template("page.html").render(
        view=view,
        results=view.results,
        words=words,
        tables=tables,
        pareto=charts.pareto(view),
        legend=charts.legend(view),
        sensitivity=charts.sensitivity,
        distributions=charts.distributions(view),
        bare={way: BARE[way] for way in BARE if way in {c.other.cell.way for c in view.by_bare}},
        passports=passports(view.results.passports),
        facts=dict(facts(view.results.machine)),
        picture=lambda name: _picture(pictures / name),
        stages=STAGES,
        noise=sentences.NOISE,
        shape=shape,
        some=numbers.some,
        gate=gate,
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=(HERE / "page.css").read_text("utf-8"),
    )


def _known(value: object) -> object:
    """What an expression of the template shows; what is not known is never a blank."""
    missing = value is None or (isinstance(value, float) and not math.isfinite(value))
    return numbers.MISSING if missing else value


def facts(machine: Mapping[str, Fact]) -> Iterator[tuple[str, Fact]]:
    """Names and values of all that is known of a machine, versions by themselves."""
    for name, value in machine.items():
        if isinstance(value, Mapping):
            yield from value.items()
        else:
            words = name.removesuffix("_mb").replace("_", " ")
            yield words + ", MB" * name.endswith("_mb"), value


def passports(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row for each bundle, a column for all that any of them tells; images by who shares them."""
    heads = list(dict.fromkeys(
        key for passport in found.values() for key in passport if key not in ("images", "agreement")
    ))  # fmt: skip
    images: dict[tuple[tuple[str, str], ...], list[str]] = {}
    rows = []
    for bundle, passport in found.items():
        shares = (passport.get("agreement") or {}).items()
        agreement = ", ".join(f"{name} {100 * share:.2f} %" for name, share in shares)
        hashes = tuple((n, str(sha)[:DIGITS]) for n, sha in (passport.get("images") or {}).items())
        images.setdefault(hashes, []).append(bundle)
        known = [passport.get(head) for head in heads]
        rows.append([bundle, str(len(hashes)), *known, agreement])
    heads = ["images", *(head.replace("_", " ") for head in heads), "labels equal to FP32's"]
    lists = [(", ".join(bundles), hashes) for hashes, bundles in images.items() if hashes]
    return {"heads": heads, "rows": rows, "images": lists} if rows else None


def _picture(path: Path) -> str | None:
    """A picture as a data URI, smaller than its PNG; None where there is none."""
    image = cv2.imread(str(path)) if path.is_file() else None
    if image is None:
        return None
    done, data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    if not done:
        raise HedgeError(f"{path}: no picture that WebP can hold")
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()
