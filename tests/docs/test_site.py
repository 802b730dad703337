"""The site builds strictly and loads nothing from other hosts; its pictures are of today's code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from docs import house, pareto
from runtime import files

ROOT = Path(__file__).parents[2]
# What a browser fetches by itself when it shows a page; a link that is clicked is none of it.
HOST = r"""["']?(?:https?:)?//[^"'> )]+"""
FETCHED = re.compile(
    rf"<(?:script|img|iframe|source|video)\b[^>]*\bsrc={HOST}"
    rf"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preconnect|icon))[^>]*\bhref={HOST}"
    rf"|(?:url\(|@import\s*){HOST}"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(build, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder


def test_every_page_is_built_and_fetches_nothing_from_other_hosts(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not FETCHED.findall(text), page
    for style in site.rglob("*.css"):
        assert not FETCHED.findall(style.read_text(encoding="utf-8")), style


@pytest.mark.parametrize(
    "text",
    [
        '<link rel="preconnect" href="https://fonts.example" crossorigin>',
        '<link href="//fonts.example/css?family=A" rel="stylesheet">',
        "<script async src=https://cdn.example/a.js></script>",
        '<img alt="a" src="http://cdn.example/a.png">',
        "@font-face { src: url(https://fonts.example/a.woff2) }",
        '@import "//fonts.example/a.css";',
    ],
)
def test_a_request_to_another_host_would_be_found(text: str) -> None:
    assert FETCHED.search(text)


def test_what_is_made_while_building_is_in_its_page(site: Path) -> None:
    commands = (site / "reference" / "commands" / "index.html").read_text(encoding="utf-8")
    assert "--max-miou-drop" in commands and "--fail-if" in commands
    house_page = (site / "design" / "house" / "index.html").read_text(encoding="utf-8")
    assert "<svg class='house'" in house_page and "manifest.py" in house_page
    python = (site / "reference" / "python" / "index.html").read_text(encoding="utf-8")
    assert 'id="runtime.segment.Segmenter"' in python
    changes = (site / "changelog" / "index.html").read_text(encoding="utf-8")
    assert "not released yet" in changes
    assert "<!-- " not in commands.split("<article")[1].split("</article")[0]


def test_the_picture_of_the_house_is_of_the_code() -> None:
    counts = house.arrows()
    floors = house.FLOORS
    assert all(floors.index(above) < floors.index(below) for above, below in counts)
    assert {("export", "train"), ("train", "runtime"), ("benchmarks", "export")} <= counts.keys()
    drawn = ElementTree.fromstring(house.picture())
    texts = [element.text for element in drawn.iter() if element.text]
    sizes = {e.text: float(e.get("font-size", "13")) for e in drawn.iter() if e.text}
    for package in ("runtime", "train", "export", "benchmarks"):
        assert f"{package}/" in texts
        for room, count in house.rooms(package).items():
            if room != package:
                name = room.removeprefix(f"{package}.").replace(".", "/")
                told = f"{name}/ {count}"
                assert told in texts
                assert 0.6 * sizes[told] * len(told) < house.CHIP - 6  # a letter's usual width
    assert "| `manifest.py` | The manifest of a bundle" in house.table()


def test_the_pareto_picture_is_of_the_committed_report(tmp_path: Path) -> None:
    with Image.open(pareto.PICTURE) as picture:
        assert picture.info[pareto.KEY] == files.sha256(pareto.REPORT), "python docs/pareto.py"
    assert pareto.PICTURE.stat().st_size < 200_000
    results = pareto.Results.load(pareto.REPORT)
    pareto.draw(results, tmp_path / "new.png", "digest")
    with Image.open(tmp_path / "new.png") as drawn:
        assert drawn.info[pareto.KEY] == "digest" and drawn.width == 1200
    timed = [cell for cell in results.cells if cell.kind == "bundle" and cell.accuracy]
    best = pareto.front(timed)
    for one in best:
        assert one.timing and one.accuracy
        for other in timed:
            assert other.timing and other.accuracy
            faster = other.timing.p50 < one.timing.p50
            assert not (faster and other.accuracy.miou > one.accuracy.miou)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_files_that_documents_name_are_there() -> None:
    pattern = re.compile(r"`((?:train|export|runtime|benchmarks|hedge_seg|docs|tests)/[\w/.-]*)`")
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        if path.name != "CHANGELOG.md":
            for name in pattern.findall(path.read_text(encoding="utf-8")):
                assert "NAME" in name or (ROOT / name).exists(), f"{path.name}: {name}"


def test_links_between_files_of_the_repository_hold() -> None:
    """What GitHub shows: README, CONTRIBUTING and CHANGELOG; MkDocs checks the site's own."""
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text(encoding="utf-8")):
            assert target.startswith("https://") or (ROOT / target).is_file(), f"{name}: {target}"
