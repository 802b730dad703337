"""Decoding by a GPU or a media engine: what opens here, and whether it gives the CPU's pixels."""
