"""Edge networks trained and evaluated on annotated boundaries (BSDS500).

``edges.pt`` is the input of ``python -m train --edge-weights`` and ``python -m train.edges
--weights``.
"""

from runtime.cli import require

require(("scipy", "numba"), "train")
