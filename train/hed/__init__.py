"""Edge networks trained and measured on boundaries that people drew (BSDS500).

The result, ``edges.pt``, is what ``python -m train --edge-weights`` and ``python -m train.edges
--weights`` take.
"""

from runtime.cli import require

require(("scipy", "numba"), "train")
