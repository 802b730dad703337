"""The reference names the keys, fields and codes that the code has, and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np

from runtime import errors
from runtime.bundle.manifest import SCHEMA, Manifest
from runtime.bundle.measured import Measured
from runtime.config import VideoConfig
from runtime.fleet import report as fleet
from runtime.fleet.shards import FrameRows, SpanRow
from runtime.video import main
from train.checkpoint import FORMAT, Checkpoint
from train.hed.metrics import Score
from train.loop.task import Epoch

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def named(page: str, heading: str) -> set[str]:
    """The code spans in the first column of the table below a heading; of prose, all of them."""
    text = (REFERENCE / page).read_text(encoding="utf-8").split(f"## {heading}\n")[1]
    section = text.split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", " ".join(rows) or section))


def test_the_keys_of_a_report_and_of_its_rows(
    tmp_path: Path,
    shared_bundle: Path,
    make_images: Callable[..., Path],
    save_ids: Callable[[Path, np.ndarray], Path],
) -> None:
    frames = make_images(tmp_path / "frames", 3)
    for number in range(3):
        save_ids(tmp_path / "labels" / f"f{number}.png", np.zeros((24, 32), np.uint8))
    config = VideoConfig(
        str(frames), shared_bundle, "onnxruntime", labels=tmp_path / "labels", fps=30.0,
        boundaries=True, reference=shared_bundle,
        json=tmp_path / "report.json", metrics=tmp_path / "rows.jsonl",
    )  # fmt: skip
    main(config)
    report = json.loads((tmp_path / "report.json").read_bytes())
    top = named("json.md", "`--json` of `hedge video`")
    assert report.keys() == top
    page = (REFERENCE / "json.md").read_text(encoding="utf-8")
    for part in ("deadline", "drift"):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{part}` |"))
        keys = {*report[part], *(key for second in report[part].get("worst", ()) for key in second)}
        assert keys <= set(re.findall(r"`(\w+)`", row)), part
    example = json.loads(re.findall(r"```json\n(.*?)\n```", page, re.DOTALL)[0])
    row = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])
    assert row.keys() == example.keys() | {"agreement", "flicker", "flicker_reference"}


def test_the_keys_of_a_fleet_and_the_columns_of_its_tables() -> None:
    keys = {field.name for field in fields(fleet.Report)}
    assert keys - {"boundary_tolerance_px", "boundary_f_by_class"} == named(
        "json.md", "`--json` of `hedge fleet`"
    )
    columns = {*FrameRows(["NAME"]).table("a.mp4").column_names}
    columns |= {field.name for field in fields(SpanRow)}
    assert columns == named("formats.md", "Tables of a fleet") - {"parquet", "spans"}


def test_the_keys_of_edges() -> None:
    keys = {field.name for field in fields(Score)} | {"people", "images", "split", "tolerance"}
    assert keys == named("json.md", "`--json` of `hedge evaluate-edges`")


def test_the_keys_of_an_epoch() -> None:
    section = named("json.md", "`metrics.jsonl` of a run")
    assert {field.name for field in fields(Epoch)} == section - {"null"}


def test_the_fields_of_manifest_and_checkpoint() -> None:
    manifest = {field.name for field in fields(Manifest)}
    assert manifest == named("formats.md", "Manifest")
    text = (REFERENCE / "formats.md").read_text(encoding="utf-8")
    measured = re.search(r"^\| `measured` .*$", text, re.MULTILINE)
    assert measured is not None
    assert {*Measured.__struct_fields__} - {"foreign"} <= set(re.findall(r"`(\w+)`", measured[0]))
    written = {field.name for field in fields(Checkpoint)} - {"path"} | {"digest"}
    assert written == named("formats.md", "Checkpoint")
    assert FORMAT in text and f"schema {SCHEMA}." in text


def test_the_exit_codes() -> None:
    kinds = (errors.HedgeError, *errors.HedgeError.__subclasses__())
    codes = {kind.exit_code for kind in kinds}
    codes |= {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    table = (REFERENCE / "exit-codes.md").read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == codes
