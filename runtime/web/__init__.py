"""The page of a running stream, and its metrics for Prometheus."""
