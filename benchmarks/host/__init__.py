"""The machine: what it is, its ceilings, its energy."""
