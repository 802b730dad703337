"""``hedge doctor``: what is here, what works, how fast, what is missing."""
