"""A MkDocs hook: pages that show a file of the repository's root, its links those of the site."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"<!-- file: (\S+) -->")


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs calls this for every page: put the file where its mark stands."""
    return MARK.sub(lambda mark: _text(mark[1]), markdown)


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
