"""One run of the matrix: the plan, interleaved rounds, what is recorded."""
