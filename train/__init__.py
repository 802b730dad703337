"""Training: data sets, models, the loop, evaluation. PyTorch lives here and in export only."""
