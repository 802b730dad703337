"""Training: data sets, models, the loop, evaluation. PyTorch lives here and in export only.

``train.check`` and ``train.datasets`` need none of it, so that labels can be checked where they
are made.
"""

import sys

from runtime.cli import require

LIBRARIES = ("torch", "torchvision", "tensorboard")  # of the extra
_WITHOUT = ("train.check", "train.datasets")


def _asked() -> str:
    """The module that ``python -m`` was asked for."""
    words = sys.orig_argv
    return words[words.index("-m") + 1] if "-m" in words[:-1] else ""


# While ``python -m`` looks for its module nothing can catch what that raises.
if sys.argv[:1] == ["-m"] and not _asked().startswith(_WITHOUT):
    require(LIBRARIES, "train")
