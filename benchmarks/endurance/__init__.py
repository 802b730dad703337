"""What the streaming runtime does when the world misbehaves."""
