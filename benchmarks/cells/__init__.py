"""What is measured: one process a cell, our engines and their peers."""
