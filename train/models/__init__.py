"""The networks: DeepLabV3 encoder-decoder, Squeeze-Excitation, HED."""

from runtime.cli import require

require(("torch", "torchvision", "tensorboard"), "train")

from train.models.deeplab import DeepLab, Segmentation  # noqa: E402

__all__ = ["DeepLab", "Segmentation"]
