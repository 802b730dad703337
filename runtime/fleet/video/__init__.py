"""A span of a video: its frames read, and their labels written."""
