"""What the ablation found: its rows, and their forms: JSON, Markdown, a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Literal

import msgspec
from matplotlib.figure import Figure

from benchmarks.report.markdown import ruled
from benchmarks.results import Fact
from benchmarks.stats.pairs import POWER, Gain, gain, pairs_to_tell, spread
from runtime import files
from runtime.errors import HedgeError

NAME = "ablation"
Score = Literal["miou", "boundary_f", "int8_miou"]
WORTH = 1.5  # points of mIoU that a comparison should be able to tell


@dataclass(frozen=True)
class Result:
    """One training, judged on the validation split by its last epoch; all in 0..1.

    boundary_f: None where the labels leave every boundary out; int8_miou: of its INT8 bundle
    without a search for layers to keep, in OpenVINO.
    """

    design: str
    seed: int
    miou: float
    boundary_f: float | None
    iou: Mapping[str, float | None]
    int8_miou: float | None = None


@dataclass(frozen=True)
class Cost:
    """A design at work: parameters; multiply-adds a frame; median milliseconds by precision, of
    all designs in turn, with random weights."""

    design: str
    parameters: int
    multiply_adds: int
    fp32_ms: float
    int8_ms: float


@dataclass(frozen=True)
class Row:
    """A design over its seeds, in points: mean and half the spread of mIoU, means of boundary F
    and of the mIoU in INT8. What it gains on the first design, seed by seed (None without a common
    one), and of mIoU for each millisecond its INT8 frame takes longer (None where it takes no
    longer)."""

    design: str
    seeds: int
    miou: float
    miou_spread: float
    boundary_f: float | None
    int8_miou: float | None
    gained: Gain | None
    boundary_f_gained: Gain | None
    int8_gained: Gain | None
    gained_a_ms: float | None


@dataclass(frozen=True)
class Report:
    """All that ``ablation.json`` holds; ``schedule``, ``data`` and ``size`` (H, W) are what every
    result in it shares."""

    schedule: str
    data: str
    size: tuple[int, int]
    boundary_tolerance_px: int
    results: Sequence[Result] = ()
    costs: Sequence[Cost] = ()
    timing: str = ""
    machine: Mapping[str, Fact] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Report | None:
        """What ``save`` left in ``folder``; None where nothing is; HedgeError if it is damaged."""
        path = folder / f"{NAME}.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            raise HedgeError(
                f"{path}: not a report of the ablation ({error}); delete it"
            ) from error

    def save(self, folder: Path) -> None:
        """Write ablation.json, ablation.md and ablation.png."""
        content = msgspec.json.format(msgspec.json.encode(self)) + b"\n"
        files.write_bytes(folder / f"{NAME}.json", content)
        files.write_bytes(folder / f"{NAME}.md", to_markdown(self).encode())
        with files.atomic_path(folder / f"{NAME}.png") as temporary:
            draw(self, temporary)

    def cost(self, design: str) -> Cost | None:
        """What ``design`` costs, where it was timed."""
        return next((cost for cost in self.costs if cost.design == design), None)

    def rows(self) -> list[Row]:
        """The table, in the order of the results; the first design is the yardstick."""
        found: list[Row] = []
        for design in dict.fromkeys(result.design for result in self.results):
            mine = [result for result in self.results if result.design == design]
            scores = [100 * result.miou for result in mine]
            int8 = [100 * r.int8_miou for r in mine if r.int8_miou is not None]
            edges = [100 * r.boundary_f for r in mine if r.boundary_f is not None]
            gained = gain(self.differences(design, "miou"))
            first, own = self.cost(self.results[0].design), self.cost(design)
            longer = own.int8_ms - first.int8_ms if own and first else 0.0
            found.append(
                Row(
                    design,
                    len(mine),
                    mean(scores),
                    (max(scores) - min(scores)) / 2,
                    mean(edges) if edges else None,
                    mean(int8) if int8 else None,
                    gained,
                    gain(self.differences(design, "boundary_f")),
                    gain(self.differences(design, "int8_miou")),
                    gained.mean / longer if gained and longer > 0 else None,
                )
            )
        return found

    def differences(self, design: str, score: Score) -> list[float]:
        """Points that ``design`` has more of a score than the first one, by common seeds."""
        first = self.results[0].design
        ours, theirs = (
            {
                r.seed: v
                for r in self.results
                if r.design == d and (v := getattr(r, score)) is not None
            }
            for d in (design, first)
        )
        return [100 * (ours[seed] - theirs[seed]) for seed in ours if seed in theirs]


_HEAD = (
    "design", "seeds", "mIoU %", "± ", "boundary F %", "INT8 mIoU %", "M parameters",
    "G multiply-adds", "FP32 ms", "INT8 ms", "points a ms",
)  # fmt: skip
_GAINS = (
    "design",
    "pairs",
    "mIoU gained (95 %)",
    "boundary F gained (95 %)",
    "INT8 mIoU gained (95 %)",
)


def to_markdown(report: Report) -> str:
    """Three tables, the designs, what they gain and their classes, with what they were measured on
    below."""
    rows = report.rows()
    names = list(report.results[0].iou) if report.results else []
    classes = [("design", *names)]
    for row in rows:
        mine = [r.iou for r in report.results if r.design == row.design]
        values = [[v for iou in mine if (v := iou[n]) is not None] for n in names]
        classes.append((row.design, *(f"{100 * mean(v):.1f}" if v else "–" for v in values)))
    designs = [_HEAD, *(_cells(row, report.cost(row.design)) for row in rows)]
    gains = [_GAINS, *(_gains(row) for row in rows[1:])]
    tables = "\n\n".join(ruled(table) for table in (designs, gains, classes))
    return f"{tables}\n\n{_footer(report)}\n"


def _gains(row: Row) -> tuple[str, ...]:
    pairs = row.gained.pairs if row.gained else 0
    found = (row.gained, row.boundary_f_gained, row.int8_gained)
    return (row.design, str(pairs), *(_interval(one) for one in found))


def _interval(found: Gain | None) -> str:
    if found is None:
        return "–"
    if found.low is None or found.high is None:
        return f"{found.mean:+.2f}"
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _power(report: Report) -> str:
    """How many pairs a comparison would take, by how much those that there are vary."""
    designs = dict.fromkeys(result.design for result in report.results)
    deviation = spread(report.differences(design, "miou") for design in list(designs)[1:])
    if math.isnan(deviation):
        return ""
    pairs = pairs_to_tell(WORTH, deviation)
    return (
        f"paired differences of mIoU vary by {deviation:.2f} points (standard deviation), so that "
        f"{pairs or 'too many'} pairs tell {WORTH:g} points in {100 * POWER:.0f} % of the cases; "
    )


def _footer(report: Report) -> str:
    height, width = report.size
    timing = f"{report.timing} on {report.machine['cpu']}; " if report.costs else "not timed; "
    first = report.rows()[0].design if report.results else "–"
    return (
        f"{report.data} at {height}×{width}; {report.schedule}; ±: half the spread over seeds; "
        f"boundary tolerance {report.boundary_tolerance_px} px; {timing}"
        f"gains against {first}, by seed; {_power(report)}points a ms of INT8"
    )


def _cells(row: Row, cost: Cost | None) -> tuple[str, ...]:
    scores = (row.miou, row.miou_spread, row.boundary_f, row.int8_miou)
    price: tuple[str, ...] = ("–",) * 4
    if cost is not None:
        sizes = (f"{count:.2f}" for count in (cost.parameters / 1e6, cost.multiply_adds / 1e9))
        price = (*sizes, f"{cost.fp32_ms:.1f}", f"{cost.int8_ms:.1f}")
    return (
        row.design, str(row.seeds), *(_number(score, ".2f") for score in scores), *price,
        _number(row.gained_a_ms, "+.2f"),
    )  # fmt: skip


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def draw(report: Report, path: Path) -> None:
    """mIoU against the milliseconds of an INT8 frame; a bar from the worst seed to the best.

    Until anything is timed, the designs stand side by side.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for row in report.rows():
        cost = report.cost(row.design)
        if report.costs and not cost:
            continue
        x = cost.int8_ms if cost else row.design.replace(" ", "\n")
        axes.errorbar(x, row.miou, yerr=row.miou_spread, fmt="o", capsize=4, label=row.design)
    axes.set(
        xlabel="ms a frame, INT8" if report.costs else "design (not timed)",
        ylabel="mIoU %",
        title=report.data,
    )
    axes.margins(x=0.2, y=0.2)
    axes.grid(alpha=0.3)
    if report.costs:
        figure.legend(loc="outside right center")
    figure.savefig(path, format="png", dpi=120)
