"""report.html and report.md say what was measured, in plain words, whole and harmless."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.gate.judge import judge, parse
from benchmarks.report.markdown import to_markdown
from benchmarks.report.page import to_html, write
from benchmarks.report.sentences import words
from benchmarks.report.tables import tabulate
from benchmarks.report.view import derive
from benchmarks.results import Cell, PipelineShares, Results
from tests.benchmarks.runs import CELL, STAGES, WORST, changed, results, slowed, timing, with_bare

EVIL = "<img src=x onerror=alert(1)>|`*\"'&"
PASSPORT = {
    "data": "camvid", "split": "train", "images": {"a.png": "ab" * 32, EVIL: "cd" * 32},
    "method": "minmax", "agreement": {"minmax": 0.98},
}  # fmt: skip
STEPS = [
    {"kept": ["a"] * n, "drop": {"miou": 1 / n, "worst": 2.0, "worst_class": "fence"},
     "ms": 10.0 + n, "ratio": 1.0}
    for n in (2, 3, 9)
]  # fmt: skip
SEARCH = {
    "backend": "openvino", "frames": "20 frames", "int8_ms": 10.0, "steps": STEPS,
    "layers": [{"name": f"conv{n}", "changed": 0.1, "drop": 0.2 * n} for n in range(12)],
    "chosen": STEPS[1], "rank_correlation": 0.5,
}  # fmt: skip


class Page(HTMLParser):
    """What a browser would make of a page: tags, and texts by the innermost tag."""

    VOID = frozenset(("br", "img", "meta", "link", "line", "path", "rect", "polyline"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open, "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "tags are closed in order"

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open[-1] not in ("style", "script"):
            self.texts.append(" ".join(data.split()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        """All that is read."""
        return "\n".join(self.texts)


@pytest.fixture
def full(tmp_path: Path) -> Results:
    """With everything that a run can hold; its picture is in ``tmp_path``."""
    run = with_bare(results())
    (tmp_path / "worst").mkdir()
    cv2.imwrite(str(tmp_path / WORST.picture), np.full((8, 30, 3), 90, np.uint8))
    return replace(
        run,
        stages=[STAGES],
        worst=[WORST, replace(WORST, picture="lost.png")],
        passports={"dlse-int8": PASSPORT},
        sensitivity={"dlse-int8": SEARCH},
        ceilings={"fp32": 400.0},
        notes=["a thing to know"],
    )


def html_of(run: Results, folder: Path, **more: Any) -> str:
    """The page as text."""
    view = derive(run)
    return to_html(view, words(view), tabulate(view), folder, **more)


def markdown_of(run: Results) -> str:
    """report.md."""
    view = derive(run)
    return to_markdown(words(view), tabulate(view))


def page(run: Results, folder: Path, **more: Any) -> Page:
    return Page(html_of(run, folder, **more))


def test_three_files_are_written(full: Results, tmp_path: Path) -> None:
    write(full, tmp_path / "out", tmp_path)
    assert Results.load(tmp_path / "out" / "report.json").cells[0] == replace(
        full.cells[0], timing=Results.load(tmp_path / "out" / "report.json").cells[0].timing
    )
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert markdown.startswith("### INT8 on OpenVINO: 8.")
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(lines) == (2 + 16) + (2 + 7), "the cells, and what SE and our code cost"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html", "report.json", "report.md",
    ]  # fmt: skip


def test_the_page_holds_every_cell_and_section(full: Results, tmp_path: Path) -> None:
    found = page(full, tmp_path)
    ids = [one["id"] for one in found.all("section")]
    assert ids == [
        "words", "pareto", "cells", "overhead", "costs", "distributions", "arrivals", "classes",
        "stages", "searches", "worst", "passports", "machine", "how",
    ]  # fmt: skip
    linked = {str(link["href"])[1:] for link in found.all("a")}
    assert linked == set(ids) - {"words"}
    marks = [one for one in found.all("g") if "mark" in str(one.get("class"))]
    assert len(marks) == 2 * (16 + 3), "at two widths: bundles and peers, and searched steps"
    assert (
        sum("peer" in str(one["class"]) and "int8" not in str(one["class"]) for one in marks) == 8
    )
    for said in (
        "INT8 on ONNX Runtime", "PyTorch FP32 channels_last", "67.80 %", "abababab", "drive.mp4",
        "a thing to know", "+1.0 %", "25.0 %", "camvid", "63 % of the engine",
    ):  # fmt: skip
        assert said in found.text
    assert found.text.count("tunnel") == 2, "a class that does not occur is named, without numbers"


def test_the_page_loads_nothing(full: Results, tmp_path: Path) -> None:
    html = html_of(full, tmp_path)
    found = Page(html)
    sources = [v for _, a in found.tags for k, v in a.items() if k in ("src", "href", "srcset")]
    assert all(str(one).startswith(("data:", "#")) for one in sources)
    assert "url(" not in html and "@import" not in html and "http://" not in html
    policy = str(found.all("meta")[2]["content"])
    assert policy.startswith("default-src 'none'; img-src data:;")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.S)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1 and f"script-src 'sha256-{digest}'" in policy
    assert not [k for _, a in found.tags for k in a if k.startswith("on")]


def test_the_page_is_there_for_everyone(full: Results, tmp_path: Path) -> None:
    found = page(full, tmp_path)
    assert all(image.get("alt") for image in found.all("img"))
    assert all("scope" in head for head in found.all("th"))
    assert found.all("html")[0]["lang"] == "en"
    named = [s for s in found.all("svg") if s.get("role") == "img"]
    assert named and all(s.get("aria-label") for s in named)
    assert len(named) + sum(s.get("aria-hidden") == "true" for s in found.all("svg")) == len(
        found.all("svg")
    )


def test_pictures_are_inside_and_lost_ones_are_said(full: Results, tmp_path: Path) -> None:
    found = page(full, tmp_path)
    uris = [str(image["src"]) for image in found.all("img")]
    assert len(uris) == 1 and uris[0].startswith("data:image/webp;base64,")
    data = np.frombuffer(base64.b64decode(uris[0].split(",")[1]), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (8, 30, 3)
    assert "picture not available" in found.texts


def _evil(run: Results) -> Results:
    cells = [
        replace(
            cell, name=cell.name + EVIL, bundle=(cell.bundle or "") + EVIL,
            model=cell.model + EVIL, variant=cell.variant + EVIL, backend=cell.backend + EVIL,
            way=cell.way, precision=cell.precision + EVIL, computes=cell.computes + EVIL,
            accuracy=cell.accuracy and replace(cell.accuracy, iou={EVIL: 0.5, "car": 0.2}),
        )
        for cell in run.cells
    ]  # fmt: skip
    broken = replace(cells[3], timing=None, error=EVIL)
    return replace(
        run,
        machine={EVIL: EVIL, "cpu": EVIL, "versions": {EVIL: EVIL}},
        cells=[*cells[:3], broken, *cells[4:]],
        data=EVIL,
        ceilings={EVIL: 1.0},
        stages=[replace(STAGES, cell=EVIL, video=EVIL)],
        worst=[replace(WORST, cell=EVIL, frame=EVIL)],
        passports={EVIL: {**PASSPORT, EVIL: EVIL, "agreement": {EVIL: 0.1}}},
        sensitivity={EVIL: {**SEARCH, "backend": EVIL, "frames": EVIL,
                            "layers": [{"name": EVIL, "changed": 0.1, "drop": 0.1}]}},
        notes=[EVIL],
    )  # fmt: skip


def test_no_name_is_markup(full: Results, tmp_path: Path) -> None:
    run = _evil(full)
    html = html_of(run, tmp_path)
    found = Page(html)
    assert "<img src=x" not in html
    assert found.text.count("<img src=x onerror=alert(1)>") > 50, "it is read, not run"
    assert not [k for _, a in found.tags for k in a if k.startswith("on")]
    plain = page(full, tmp_path)
    kinds = {tag for tag, _ in found.tags}
    assert kinds <= {tag for tag, _ in plain.tags}
    write(run, tmp_path / "out", tmp_path)
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "<img" not in markdown
    tables = [part.splitlines() for part in markdown.split("\n\n") if part.startswith("| ")]
    assert len(tables) == 2
    for rows in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def _changes(run: Results) -> list[Results]:
    """Runs that lack things."""
    fields = (
        "timing", "accuracy", "arrival", "peak_mb", "model_mb", "engine_mb", "start_s", "gflops",
        "ceiling", "multiply_adds", "fps_in_flight",
    )  # fmt: skip
    nothing: dict[str, Any] = dict.fromkeys(fields)
    broken = [replace(cell, **nothing, error="crashed: signal 11") for cell in run.cells]
    bare = [replace(cell, **nothing) for cell in run.cells]
    unlabelled = [replace(cell, accuracy=None) for cell in run.cells]
    blind = [
        replace(c, accuracy=c.accuracy and replace(c.accuracy, boundary_f=None)) for c in run.cells
    ]
    single = [
        replace(c, timing=c.timing and replace(c.timing, samples=c.timing.samples[:1]))
        for c in run.cells
    ]
    some = [replace(run.cells[0], **nothing), *run.cells[1:]]
    kept = [replace(run, cells=cells) for cells in (broken, bare, unlabelled, blind, single, some)]
    minimal = Results(machine={}, cells=[])
    alone = Results(machine={"cpu": None}, cells=[Cell("x", "bundle")], quick=True)
    return [*kept, minimal, alone, results(("dlse",), ("openvino",), peers=False)]


@pytest.mark.parametrize("number", range(9))
def test_what_is_missing_is_said_and_never_a_blank(
    number: int, full: Results, tmp_path: Path
) -> None:
    run = _changes(full)[number]
    write(run, tmp_path / "out", tmp_path)
    found = Page((tmp_path / "out" / "report.html").read_text())
    texts = found.text + (tmp_path / "out" / "report.md").read_text()
    assert not re.search(r"\b(None|nan|inf|Undefined)\b", texts)
    assert not re.search(r"\b(None|nan|inf)\b", str([a for t, a in found.tags if t != "meta"]))
    assert "not available" in found.text
    assert found.all("h1") and found.all("section")
    if number == 0:
        assert "Nothing could be measured" in texts
        assert "not measured, because crashed: signal 11" in texts


def test_numbers_of_what_broke_are_not_shown(full: Results, tmp_path: Path) -> None:
    run = changed(full, {CELL: {"error": "hung for 30 s", "timing": timing(0.123, 1)}})
    found = page(run, tmp_path)
    assert "0.12" not in found.text
    assert "dlse INT8 on OpenVINO: not measured, because hung for 30 s" in found.texts


def test_only_what_is_serious_stands_in_a_red_box(full: Results, tmp_path: Path) -> None:
    missing = {c.name: {"error": "no checkpoint"} for c in full.cells if c.kind == "peer"}
    html = html_of(changed(full, missing), tmp_path)
    assert "all peers: not measured, because no checkpoint" in Page(html).texts
    assert '<div class="notice' not in html and '<td class="error"' not in html
    assert "**all peers" not in markdown_of(changed(full, missing))
    broken = changed(full, missing | {CELL: {"error": "crashed"}})
    notice = html_of(broken, tmp_path).split('<div class="notice">')[1].split("</div>")[0]
    assert "because crashed" in notice and "no checkpoint" not in notice
    assert "**dlse INT8 on OpenVINO: not measured" in markdown_of(broken)


def test_a_pipeline_alone_is_a_report(tmp_path: Path) -> None:
    cpu = {"engine": 20.0, "labels": 21.5, "overlay": 29.0, "naive": 90.0}
    row = PipelineShares("mobilenet_v2-dlse-96x128", 12.3, 0.97, 0.91, 4.5, 0.06, cpu)
    found = page(Results({"cpu": "a CPU"}, [], pipelines=[row]), tmp_path)
    assert found.all("h1") and "keeps 91 % or more of its engine's speed" in found.text
    for said in (row.model, "12.3", "0.97", "0.91", "4.50", "6.0", "+1.5", "+9.0"):
        assert said in found.texts


def test_the_gate_is_up_front(full: Results, tmp_path: Path) -> None:
    slower = judge(slowed(full, 1.3, CELL), full, parse("latency > 1.1"))
    write(full, tmp_path / "out", tmp_path, slower)
    text = Page((tmp_path / "out" / "report.html").read_text()).text
    assert "The gate is not passed: latency > 1.1" in text and f"{CELL}: latency > 1.1" in text
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "gate failed (latency > 1.1)" in markdown
    passed = judge(full, full, parse("latency > 1.1"))
    assert "The gate is passed: latency > 1.1" in page(full, tmp_path, gate=passed).text


def test_sizes_tell_cells_apart(tmp_path: Path) -> None:
    run = results(("dlse",), ("openvino",), peers=False)
    large = [replace(cell, name=f"{cell.name} large", input=(1, 512, 1024)) for cell in run.cells]
    found = page(replace(run, cells=[*run.cells, *large]), tmp_path)
    assert "dlse, 512×1024" in found.text and "dlse, 360×480" in found.text


def test_bundles_of_one_training_are_told_apart() -> None:
    run = results(("dlse",), ("openvino",), peers=False)
    again = [replace(c, name=f"old/{c.name}", bundle=f"old/{c.bundle}") for c in run.cells]
    text = markdown_of(replace(run, cells=[*run.cells, *again]))
    assert "| INT8 on OpenVINO, dlse-int8 |" in text
    assert "| INT8 on OpenVINO, old/dlse-int8 |" in text


def test_the_packaged_files_are_all_there() -> None:
    """What page.py reads is named in pyproject.toml, so that an installed copy has it."""
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    packaged = json.loads(re.search(r'^"benchmarks.report" = (\["\*.*\])$', text, re.M)[1])  # type: ignore[index]
    assert {"*.css", "*.html", "*.js"} <= set(packaged)
