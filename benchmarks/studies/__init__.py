"""Studies beside the matrix: the ablation's report, models that were never trained."""
