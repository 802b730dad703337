"""The page of a running stream, its metrics, and what addresses on the web may lead to."""
