"""Models that were never trained, as checkpoints and as bundles: enough to time them.

``python -m benchmarks.studies.untrained CASE PRECISION OUT`` writes both in a process of its own.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import cast

import torch

from benchmarks.studies.case import Case
from export.config import Export, Precision
from export.exporter import export
from export.own.trained import Trained
from runtime import files
from runtime.bundle.classes import CITYSCAPES
from runtime.bundle.manifest import FILE_NAME
from runtime.errors import HedgeError
from train.checkpoint import Checkpoint
from train.config import VARIANTS, TrainConfig
from train.datasets.synthetic.generate import SyntheticConfig, generate
from train.models import DeepLab

CALIBRATION = 16  # images; ranges do not change what a layer costs


def random_checkpoint(case: Case, out: Path) -> Checkpoint:
    """A model that was never trained, for drawn streets, which are made where they are missing.

    It calls everything road: export compares the labels of its engines with PyTorch's, and those
    of a random network are near-ties that any rounding turns.
    """
    torch.manual_seed(0)
    config = TrainConfig(
        variant=case.variant,
        backbone=case.backbone,
        hed=case.hed if VARIANTS[case.variant].hed else None,
        decoder=case.decoder,
        data=streets(out / "streets"),
        size=case.size,
    )
    network = config.model(len(CITYSCAPES))
    model = DeepLab(network)
    with torch.no_grad():
        assert model.classifier.bias is not None
        model.classifier.bias[0] += 100
    return Checkpoint(config, network, CITYSCAPES, case.size, model.state_dict(), 0, 0, 0.0)


def saved_checkpoint(case: Case, out: Path) -> Path:
    """Where ``random_checkpoint`` lies under ``out``; written where it is missing."""
    path = out / f"{case}.pt"
    if not path.exists():
        random_checkpoint(case, out).save(path)
    return path


def streets(root: Path) -> Path:
    """The data set of drawn streets at ``root``, drawn where it is missing."""
    if not root.exists():
        generate(SyntheticConfig(root, train=CALIBRATION, val=1, size=(128, 256)))
    # Its labels are read as Cityscapes' first classes: nobody looks at the accuracy.
    files.write_bytes(root / "classes.json", CITYSCAPES.to_json())
    return root


def bundle(case: Case, precision: Precision, out: Path, force: bool) -> Path:
    """The exported model under ``out``; written only where it is missing, or with ``force``."""
    target = out / f"{case}-{precision}"
    if force or not (target / FILE_NAME).is_file():
        settings = Export(
            frames=1, calibration=CALIBRATION, calibration_method="minmax", force=force
        )
        with tempfile.TemporaryDirectory() as work:
            export(settings, Trained(random_checkpoint(case, out)), target, precision, Path(work))
    return target


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a GPU's library that fails may not cost the bundle
    try:
        asked, out = Case.parse(sys.argv[1]), Path(sys.argv[3])
        saved_checkpoint(asked, out)
        bundle(asked, cast(Precision, sys.argv[2]), out, force=False)
    except HedgeError as problem:
        sys.exit(str(problem))
