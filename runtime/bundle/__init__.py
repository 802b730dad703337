"""The exported folder: its manifest and its classes."""
