"""The formats of labelling tools, a file each: what tells them, and how their shapes are drawn."""

from train.datasets.tools.export import Tool
from train.datasets.tools.formats import (
    coco,
    colors,
    cvat,
    labelme,
    published,
    street,
    supervisely,
    voc,
    yolo,
)

# The first that fits wins: the most particular comes first.
TOOLS: tuple[Tool, ...] = (
    voc.TOOL,
    *street.TOOLS,
    supervisely.TOOL,
    cvat.TOOL,
    coco.TOOL,
    yolo.TOOL,
    labelme.TOOL,
    *published.TOOLS,
    colors.TOOL,
)
