"""``python -m benchmarks.ablation``: what Squeeze-Excitation and edges bring, and their price."""

from __future__ import annotations

from benchmarks.studies.designs import DESIGNS, SE_AND_EDGES, Ablation
from export import LIBRARIES
from runtime import cli
from runtime.errors import HedgeError


def main(config: Ablation) -> None:
    """The command."""
    cli.require(LIBRARIES, "benchmarks")
    for design in config.designs:
        if design not in DESIGNS:
            raise HedgeError(
                f"--designs {design}: not one of {', '.join(SE_AND_EDGES)}, … nor one with a "
                "decoder behind it, as in 'dlse_hed shared deep'"
            )
    from benchmarks.studies import ablation_runs  # --help and a wrong option wait for no PyTorch

    ablation_runs.run(config)


if __name__ == "__main__":
    cli.run(Ablation, main, "python -m benchmarks.ablation")
