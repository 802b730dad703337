"""Intervals and bootstrap."""
