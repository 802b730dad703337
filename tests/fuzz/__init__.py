"""Fuzzing: damaged and invented inputs, each judged in a process of its own that may die."""
