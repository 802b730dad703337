"""mIoU against milliseconds, drawn from a report.json: ``python docs/pareto.py``.

The picture keeps the sha256 of its report, so that a test finds a picture of an older one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.results import Cell, Results  # noqa: E402
from runtime import files  # noqa: E402

REPORT, PICTURE = ROOT / "benchmarks" / "results" / "report.json", ROOT / "docs" / "pareto.png"
COLOURS = {"fp32": "#3b6fb6", "fp16": "#d98a1f", "bf16": "#d98a1f", "int8": "#00897b"}
SHAPES = {"openvino": "o", "onnxruntime": "s"}
KEY = "Report sha256"  # in the PNG's metadata


def front(cells: list[Cell]) -> list[Cell]:
    """The cells that no other one beats in both time and mIoU, the fastest first."""
    best: list[Cell] = []
    for cell in sorted(cells, key=lambda cell: (_ms(cell), -_miou(cell))):
        if not best or _miou(cell) > _miou(best[-1]):
            best.append(cell)
    return best


def draw(results: Results, path: Path, digest: str) -> None:
    """Write the picture: peers hollow, the front labelled and joined."""
    cells = [c for c in results.settled().cells if c.kind != "bare" and c.timing and c.accuracy]
    figure = Figure(figsize=(8, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot(xlabel="ms a frame, median (one frame at a time)", ylabel="mIoU %")
    for cell in cells:
        bundle = cell.kind == "bundle"
        colour = COLOURS.get(cell.precision if bundle else cell.computes, "#777777")
        axes.plot(
            _ms(cell), _miou(cell), SHAPES.get(cell.backend, "^") if bundle else "D",
            color=colour, markerfacecolor=colour if bundle else "white", markersize=8,
        )  # fmt: skip
    best = front(cells)
    axes.plot([*map(_ms, best)], [*map(_miou, best)], color="#555555", linewidth=1, zorder=0)
    names = [f"{cell.variant} {cell.precision.upper()}" for cell in best]
    for index, (cell, text) in enumerate(zip(best, names, strict=True)):
        place = (_ms(cell), _miou(cell))
        if text in names[:index]:
            continue  # the same bundle in a slower engine
        # On the right of a fast point are the points of the others; on its left is room.
        shift, side = (8, "left") if cell is best[-1] else (-8, "right")
        axes.annotate(
            text, place, textcoords="offset points", xytext=(shift, -3), ha=side, fontsize=9
        )
    handles = [
        _key("FP32", COLOURS["fp32"], "o"),
        _key("FP16, bf16", COLOURS["fp16"], "o"),
        _key("INT8", COLOURS["int8"], "o"),
        _key("OpenVINO", "#555555", "o"),
        _key("ONNX Runtime", "#555555", "s"),
        _key("PyTorch, and ONNX Runtime + NumPy", "#555555", "D", hollow=True),
    ]
    axes.legend(handles=handles, fontsize=9, frameon=False, loc="lower right")
    axes.grid(alpha=0.25)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={KEY: digest})


def _key(text: str, colour: str, shape: str, hollow: bool = False) -> Line2D:
    face = "white" if hollow else colour
    return Line2D(
        [], [], linestyle="", marker=shape, color=colour, markerfacecolor=face, label=text
    )


def _ms(cell: Cell) -> float:
    assert cell.timing is not None
    return cell.timing.p50


def _miou(cell: Cell) -> float:
    assert cell.accuracy is not None
    return 100 * cell.accuracy.miou


if __name__ == "__main__":
    draw(Results.load(REPORT), PICTURE, files.sha256(REPORT))
