"""What a run writes: video, label images, rows, overlays."""
