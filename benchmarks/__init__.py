"""Evidence: latency beside mIoU, measured in one run."""
