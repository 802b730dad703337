"""The training loop that all tasks share: trainer, schedule, processes, terminal display."""
