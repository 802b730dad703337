"""INT8: calibration, ranges, Q/DQ nodes, and the search for layers to keep in floating point."""
