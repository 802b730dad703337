"""The networks: DeepLabV3 encoder-decoder, Squeeze-Excitation, HED."""

from train.models.deeplab import DeepLab, Segmentation

__all__ = ["DeepLab", "Segmentation"]
