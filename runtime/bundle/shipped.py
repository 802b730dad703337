"""The model that comes with the runtime, for those who have no bundle of their own."""

from __future__ import annotations

from pathlib import Path

from runtime import cli
from runtime.bundle.manifest import BUNDLES, FILE_NAME, Manifest, newest_bundle
from runtime.errors import HedgeError

SHIPPED = Path(__file__).parents[1] / "models"


def find_bundle(bundle: Path | None, root: Path = BUNDLES) -> Path:
    """The folder of ``bundle``, which may be a shipped model's name, "street19".

    Without one: the newest bundle under ``root``, else the shipped model, which one line on
    standard error then introduces. HedgeError where there is neither.
    """
    if bundle is not None:
        return bundle if bundle.exists() else _named(str(bundle)) or bundle
    try:
        return newest_bundle(root)
    except HedgeError:
        found = next(iter(_all()), None)
        if found is None:
            raise
        cli.say(introduction(Manifest.load(found)), cli.err)
        return found


def introduction(manifest: Manifest) -> str:
    """One line: which model it is, its measured mIoU, and its licence."""
    measured = manifest.measured
    frames = f"{measured.images} frames of {measured.data} ({measured.split})"
    miou = measured.miou_in("")
    return (
        f"no bundle of your own, so the shipped {manifest.name} ({len(manifest.classes)} classes): "
        f"{'?' if miou is None else f'{100 * miou:.1f}'} % mIoU on {frames}; {manifest.license}"
    )


def _all() -> list[Path]:
    return sorted(path.parent for path in SHIPPED.glob(f"*/{FILE_NAME}"))


def _named(name: str) -> Path | None:
    found = (path for path in _all() if name in (path.name, path.name.rpartition("-")[0]))
    return next(found, None)
