"""Figures of matplotlib as PNG files."""

from __future__ import annotations

import warnings
from pathlib import Path

from matplotlib.figure import Figure

from runtime import files


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Nothing is said of letters that the font lacks: docs/limits.md does, and two lines a letter
    would come between the lines of the epochs.
    """
    with warnings.catch_warnings(), files.atomic_path(path) as temporary:
        warnings.filterwarnings("ignore", r"Glyph \d+ ")
        figure.savefig(temporary, dpi=100, format="png")
