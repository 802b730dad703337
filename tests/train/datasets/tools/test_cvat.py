"""The classes of CVAT's XML: those that have an inside, listed or not."""

from __future__ import annotations

from pathlib import Path

from tests.train.datasets.tools.scenes import HOLELESS, NAMES, labels, require_like
from tests.train.datasets.tools.test_shapes import cvat_images, cvat_shape
from train.datasets import open_index

SHAPES = "".join(cvat_shape(thing, z) for z, thing in enumerate(HOLELESS))


def test_skeletons_joints_and_tags_are_no_classes(tmp_path: Path) -> None:
    """As CVAT 2 lists them: a skeleton, and its joints as labels that have a parent."""
    more = (
        "<label><name>body</name><color>#000000</color><type>skeleton</type><svg></svg></label>"
        "<label><name>1</name><type>points</type><parent>body</parent></label>"
        "<label><name>night</name><type>tag</type></label></labels>"
    )
    path = cvat_images(tmp_path / "export", SHAPES) / "annotations.xml"
    text = path.read_text("utf-8").replace("</name>", "</name><type>polygon</type>")
    path.write_text(text.replace("</labels>", more), "utf-8")
    assert open_index(path, "train").classes.names == NAMES


def test_labels_that_are_not_listed_are_classes(tmp_path: Path) -> None:
    path = cvat_images(tmp_path / "export", SHAPES) / "annotations.xml"
    head, _, rest = path.read_text("utf-8").partition("<meta>")
    path.write_text(head + rest.partition("</meta>")[2], "utf-8")
    assert open_index(path, "train").classes.names == NAMES
    for label in labels(path).values():
        require_like(label, HOLELESS, 0.5)
