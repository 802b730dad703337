"""Studies beside the matrix: ablation, untrained models, interleaved timing."""
