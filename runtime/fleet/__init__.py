"""Many videos on many machines: spans of videos, cut at key frames, through engines of Ray's."""
