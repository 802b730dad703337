"""The picture of the house: packages, their rooms and who imports whom, read from the code.

``python docs/house.py > house.svg`` writes it; a MkDocs hook puts it into its page, with a table
of every module.
"""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# From the top floor down: a package imports only from floors below its own.
FLOORS = ("hedge_seg", "benchmarks", "export", "train", "runtime")
PICTURE, ROOMS = "<!-- house:picture -->", "<!-- house:rooms -->"
# A number stays legible where another arrow crosses it.
HALO = (
    "font-size='12' stroke='var(--md-default-bg-color, white)' stroke-width='5' "
    "paint-order='stroke' stroke-linejoin='round'"
)
WIDTH, LEFT, RIGHT, ROW, CHIP = 590, 10, 460, 30, 146


def modules(package: str) -> list[Path]:
    """The Python files of a package, those of its own folder first."""
    found = (ROOT / package).rglob("*.py")
    return sorted(found, key=lambda path: (len(path.parts), path))


def rooms(package: str) -> dict[str, int]:
    """Python files by folder: the package itself, then its subfolders as dotted names."""
    folders = (".".join(path.relative_to(ROOT).parent.parts) for path in modules(package))
    return dict(Counter(folders))


def arrows() -> dict[tuple[str, str], int]:
    """How many modules of the first package import from the second."""
    found: Counter[tuple[str, str]] = Counter()
    for package in FLOORS:
        for path in modules(package):
            found.update((package, other) for other in _imported(path) - {package})
    return dict(found)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names} & set(FLOORS)


def picture() -> str:
    """An SVG in the colours of the page around it."""
    parts, places, top = [], {}, 10
    for package in (name for name in FLOORS if (ROOT / name).is_dir()):
        inner = rooms(package)
        own = inner.pop(package, 0)
        height = 44 + ROW * (-(-len(inner) // 3))
        places[package] = (top, height)
        parts.append(_box(LEFT, top, RIGHT - LEFT, height, 8, 0.08))
        parts.append(_text(LEFT + 14, top + 28, f"{package}/", "font-weight='700' font-size='17'"))
        parts.append(_text(RIGHT - 14, top + 28, f"{own} files", "text-anchor='end' opacity='.7'"))
        for number, (room, count) in enumerate(inner.items()):
            x, y = LEFT + 8 + CHIP * (number % 3), top + 40 + ROW * (number // 3)
            name = room.removeprefix(f"{package}.").replace(".", "/")
            parts.append(_box(x, y, CHIP - 6, ROW - 6, 5, 0.1))
            told = f"{name}/ {count}"
            size = min(11, 215 / len(told))  # the longest name stays in its box
            parts.append(_text(x + 8, y + 16, told, f"font-size='{size:.1f}'"))
        top += height + 26
    parts += [
        _arrow(number, *places[above], *places[below], count)
        for number, ((above, below), count) in enumerate(sorted(arrows().items()))
    ]
    return (
        f"<svg class='house' xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {top}' "
        f"role='img' aria-label='Packages and their imports' font-family='sans-serif' "
        f"font-size='13' fill='currentColor'>{''.join(parts)}</svg>"
    )


def _box(x: float, y: float, width: float, height: float, radius: float, shade: float) -> str:
    return (
        f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='{radius}' "
        f"fill='#009688' fill-opacity='{shade}' stroke='#009688' stroke-opacity='.6'/>"
    )


def _text(x: float, y: float, text: str, style: str) -> str:
    return f"<text x='{x}' y='{y}' {style}>{escape(text)}</text>"


def _arrow(
    number: int, above: float, above_height: float, below: float, below_height: float, count: int
) -> str:
    start = above + above_height / 2 + 3 * (number % 5)
    end = below + below_height / 2 - 3 * (number % 5)
    reach = RIGHT + 24 + (end - start) / 5
    return (
        f"<path d='M{RIGHT} {start} C{reach} {start} {reach} {end} {RIGHT + 7} {end}' "
        "fill='none' stroke='currentColor' stroke-opacity='.7'/>"
        f"<path d='M{RIGHT + 1} {end} l8 -4 v8 z'/>"
        + _text((RIGHT + 3 * reach) / 4 + 5, (start + end) / 2 + 4, str(count), HALO)
    )


def table() -> str:
    """Markdown: a table for each folder, with the first line of every module's docstring."""
    parts = []
    for package in FLOORS:
        folder = None
        for path in modules(package):
            here = path.relative_to(ROOT).parent.as_posix()
            if here != folder:
                folder = here
                parts.append(f"\n### {here}/\n\n| file | what it does |\n|---|---|")
            text = ast.get_docstring(_tree(path)) or "–"
            line = " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")
            parts.append(f"| `{path.name}` | {escape(line, quote=False)} |")
    return "\n".join(parts)


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs calls this for every page: put the picture and the table where their marks stand."""
    if PICTURE not in markdown:
        return markdown
    return markdown.replace(PICTURE, picture()).replace(ROOMS, table())


if __name__ == "__main__":
    print(picture())
