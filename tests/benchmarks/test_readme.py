"""The tables of documents are written from a report, and only from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.readme import BEGIN, END, SHORT, Readme, main, replaced, shortened
from benchmarks.report.view import derive
from benchmarks.results import Results
from benchmarks.schema import schema
from runtime.errors import GateError, HedgeError
from tests.benchmarks.runs import CELL, changed, results

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "benchmarks" / "results" / "report.json"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_bytes(results().to_json())
    return path


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    path = tmp_path / "README.md"
    path.write_text(f"# Ours\n\n{BEGIN}\nold\n{END}\n\nThe end.\n")
    return path


@pytest.mark.parametrize(
    ("name", "begin"), [("README.md", SHORT), ("docs/results/2026-12-01-matrix.md", BEGIN)]
)
def test_a_document_holds_the_committed_report_and_nothing_else(name: str, begin: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert begin in text and replaced(text, Results.load(REPORT), ROOT / name) == text, (
        f"python -m benchmarks.readme benchmarks/results/report.json {name}"
    )


def test_the_short_table_has_pytorch_and_the_fastest_engine_of_each_bundle(
    report: Path, readme: Path
) -> None:
    readme.write_text(f"{SHORT}\nold\n{END}\n")
    main(Readme(report, readme))
    text = readme.read_text()
    assert text.startswith(f"{SHORT}\n| model |") and text.endswith(f"{END}\n")
    whole = derive(Results.load(report))
    short = [row.cell for row in shortened(whole).rows]
    bundles = short[[cell.kind for cell in short].index("bundle") :]
    assert short[0].kind == "peer" and {cell.kind for cell in bundles} == {"bundle"}
    assert len([line for line in text.splitlines() if line.startswith("| ")]) == 2 + len(short)
    for cell in bundles:
        rivals = [
            other.timing.p50
            for other in whole.results.cells
            if (other.kind, other.model, other.precision) == ("bundle", cell.model, cell.precision)
            and other.timing
        ]
        assert cell.timing and cell.timing.p50 == min(rivals) and len(rivals) > 1


def test_the_schema_in_docs_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "report.schema.json").read_bytes() == schema(), (
        "python -m benchmarks.schema > docs/report.schema.json"
    )


def test_a_table_is_written_between_the_comments(report: Path, readme: Path) -> None:
    main(Readme(report, readme))
    text = readme.read_text()
    assert text.startswith(f"# Ours\n\n{BEGIN}\n| model | engine | p50 ms |")
    assert text.endswith(f"{END}\n\nThe end.\n") and "old" not in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + 12 + 4
    assert all(line.count(" | ") == lines[0].count(" | ") for line in lines)
    footer = text.splitlines()[-4]
    for said in ("a CPU", "2 cores", "2 threads", "OpenVINO 2026.1", "80 interleaved", "blocks"):
        assert said in footer
    main(Readme(report, readme))
    assert readme.read_text() == text


def test_a_check_writes_nothing_and_finds_every_difference(report: Path, readme: Path) -> None:
    before = readme.read_text()
    with pytest.raises(GateError, match="write it anew: python -m benchmarks"):
        main(Readme(report, readme, check=True))
    assert readme.read_text() == before
    main(Readme(report, readme))
    main(Readme(report, readme, check=True))
    found = Results.load(report).cell(CELL)
    assert found and found.timing
    slower = {CELL: {"timing": replace(found.timing, p50=1.2 * found.timing.p50)}}
    report.write_bytes(changed(results(), slower).to_json())
    with pytest.raises(GateError):
        main(Readme(report, readme, check=True))


@pytest.mark.parametrize(
    "text", ["", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"]
)
def test_a_file_without_a_place_for_it_is_one_line(text: str, report: Path, readme: Path) -> None:
    readme.write_text(text)
    with pytest.raises(HedgeError, match=r"README.md: needs one line <!-- benchmarks:begin -->"):
        main(Readme(report, readme))
    assert readme.read_text() == text


def test_what_is_no_report_or_no_text_is_one_line(report: Path, readme: Path) -> None:
    readme.write_bytes(b"\xff")
    with pytest.raises(HedgeError, match="not a readable text file"):
        main(Readme(report, readme))
    readme.write_text(f"{BEGIN}\n{END}\n")
    report.write_text("{}")
    with pytest.raises(HedgeError, match=r"not a report\.json"):
        main(Readme(report, readme))
