"""A drawn street with exact labels: camera, things to draw, the plan of a street, the writer."""
