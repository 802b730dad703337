"""The designs that the ablation compares, and what it can be asked; needs no heavy libraries."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from train.config import (
    DECODERS,
    EDGES,
    FIRST_DECODER,
    DecoderName,
    EdgeName,
    TrainConfig,
    VariantName,
)


@dataclass(frozen=True)
class Design:
    """A row of the table: a variant, and where its edges come from."""

    variant: VariantName
    hed: EdgeName | None = None
    decoder: DecoderName = FIRST_DECODER


DESIGNS: dict[str, Design] = {
    "vanilla": Design("vanilla"),
    "dlse": Design("dlse"),
    "dlse_sf": Design("dlse_sf"),
    "dlse_hed lite": Design("dlse_hed", "lite"),
    "dlse_hed blank": Design("dlse_hed", "blank"),
    "dlse_hed shared": Design("dlse_hed", "shared"),
    "dlse_hed supervised": Design("dlse_hed", "supervised"),
}
SE_AND_EDGES = tuple(DESIGNS)  # what SE and edges bring
DESIGNS |= {f"dlse_hed {name}": Design("dlse_hed", name) for name in EDGES}
DESIGNS |= {
    f"{name} {decoder}": replace(design, decoder=decoder)
    for name, design in DESIGNS.items()
    for decoder in DECODERS
    if decoder != FIRST_DECODER
}


@dataclass(frozen=True)
class Ablation:
    """Train every design with the same budget, order and seeds; tell what each brings and costs.

    One training after the other: stop it with Ctrl-C whenever you like, the same command goes on.
    What a finished training found is in --out/ablation.json, and is never repeated, also on
    another machine that has only this file; several commands with other --seeds or --designs may
    share the work. Trainings in bf16 and in FP32 do not mix: where machines differ, give
    --train.no-amp. The last epoch's weights are judged, not the best epoch's, which would be
    chosen on the frames that it is judged on.

    Example: python -m benchmarks.ablation --train.data camvid --train.crop 240 320 \
--train.epochs 20 --train.weights mobilenet_v2_imagenet.pth --train.edge-weights edges.pt
    """

    train: TrainConfig = field(default_factory=TrainConfig)
    """Settings that all trainings share; variant, hed, seed, name and out are the table's."""
    designs: tuple[str, ...] = SE_AND_EDGES
    """Rows of the table: a variant and its edges, or these and a decoder, as in "vanilla deep" and
    "dlse_hed vgg16 deep"; without one it is the first, concat."""
    seeds: tuple[int, ...] = (0, 1)
    """Each design is trained once with each."""
    rounds: int = 30
    """How often each engine is timed."""
    threads: int = 2
    """CPU threads of each engine."""
    runs: Path = Path("runs/ablation")
    """Folder of the trainings and bundles."""
    out: Path = Path("benchmarks/results")
    """Folder of ablation.json, ablation.md and ablation.png."""
    time: bool = True
    """Time the designs at the end, which wants a machine that does nothing else."""
    report_only: bool = False
    """Train nothing: report on the trainings that are finished."""
