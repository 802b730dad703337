"""What a training leaves to look at: curves, pictures, tables, and what trackers are told."""
