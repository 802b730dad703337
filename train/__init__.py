"""Training: data sets, models, the loop, evaluation. PyTorch lives here and in export only."""

from runtime.cli import require

require(("torch", "torchvision", "tensorboard"), "train")
