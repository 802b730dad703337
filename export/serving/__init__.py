"""A bundle, handed over to the servers of others: Triton and DeepStream."""
