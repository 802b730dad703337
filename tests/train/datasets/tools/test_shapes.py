"""Exports of outlines become the masks that their tools draw: CVAT, LabelMe, Supervisely, YOLO."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from PIL import Image

from runtime.errors import HedgeError
from tests.train.datasets.tools.scenes import (
    CAR,
    HOLELESS,
    NAMES,
    RING,
    ROAD,
    SIZE,
    STEMS,
    THINGS,
    Thing,
    drawn,
    labels,
    photo,
    require_like,
)
from train.check import Check, main
from train.datasets import open_index, survey

HOLE = drawn((RING,), 0.0)[0] > 0
RING_AT = (200, 20)  # x, y of its box


def ring_png(mode: str) -> bytes:
    """The box of RING as a picture, by alpha or by gray."""
    part = (HOLE[20:141, 200:301] * 255).astype(np.uint8)
    image = Image.fromarray(part)
    if mode == "RGBA":
        image = Image.merge("RGBA", (*[Image.new("L", image.size, 255)] * 3, image))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def cvat_shape(thing: Thing, z: int) -> str:
    points = ";".join(f"{x},{y}" for x, y in thing.outline)
    return f"<polygon label={quoteattr(thing.name)} points='{points}' z_order='{z}'/>"


def cvat_ring(z: int) -> str:
    flat = HOLE[20:141, 200:301].ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=not flat[-1]))
    counts = ", ".join(map(str, np.diff(edges, prepend=0)))
    return (
        f"<mask label='person' rle='{counts}' left='200' top='20' width='101' height='121' "
        f"z_order='{z}'/>"
    )


def cvat_file(root: Path, body: str) -> Path:
    names = "".join(f"<label><name>{n}</name><color>#0000{i}f</color></label>" for i, n in
                    enumerate(NAMES) if i)  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    (root / "annotations.xml").write_text(
        f"<?xml version='1.0' encoding='utf-8'?><annotations><version>1.1</version><meta><task>"
        f"<labels>{names}</labels></task></meta>{body}</annotations>",
        encoding="utf-8",
    )
    return root


def cvat_images(root: Path, shapes: str) -> Path:
    rows = ""
    for seed, (stem, subset) in enumerate(
        zip(STEMS, ("Train", "Train", "Validation"), strict=True)
    ):
        photo(root / f"images/{subset}/{stem}.png", seed)
        rows += (
            f"<image id='{seed}' name={quoteattr(f'{stem}.png')} subset='{subset}' "
            f"width='{SIZE[1]}' height='{SIZE[0]}'>{shapes}</image>"
        )
    return cvat_file(root, rows)


def cvat(root: Path) -> Path:
    """Shapes in another order than they lie above each other."""
    line = "<polyline label='car' points='0,0;50,50' z_order='9'/>"
    return cvat_images(root, cvat_ring(5) + cvat_shape(CAR, 1) + line + cvat_shape(ROAD, 0))


def cvat_video(root: Path) -> Path:
    tracks = ""
    for z, thing in enumerate(HOLELESS):
        points = ";".join(f"{x},{y}" for x, y in thing.outline)
        rows = "".join(
            f"<polygon frame='{f}' outside='{int(f == 4)}' points='{points}' z_order='{z}'/>"
            for f in range(5)
        )
        tracks += f"<track id='{z}' label={quoteattr(thing.name)}>{rows}</track>"
    for frame in range(4):
        photo(root / f"images/frame_{frame:06}.PNG", frame)
    return cvat_file(root, tracks)


def labelme(root: Path) -> Path:
    shapes = [{"label": t.name, "points": t.outline, "shape_type": "polygon"} for t in THINGS[:2]]
    box = [list(RING_AT), [300, 140]]
    mask = base64.b64encode(ring_png("L")).decode()
    shapes.append({"label": "person", "points": box, "shape_type": "mask", "mask": mask})
    shapes.append({"label": "car", "points": [[5, 5]], "shape_type": "point"})
    for seed, stem in enumerate(STEMS):
        image = photo(root / f"pictures of {seed}/{stem}.png", seed)
        content = {
            "version": "5.4", "shapes": shapes, "imagePath": f"..\\pictures of {seed}\\{stem}.png",
            "imageData": None, "imageHeight": SIZE[0], "imageWidth": SIZE[1],
        }  # fmt: skip
        if seed == 1:  # the picture is in the file alone
            content["imageData"] = base64.b64encode(image.read_bytes()).decode()
            image.unlink()
        path = root / f"json/{stem}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return root


def supervisely(root: Path) -> Path:
    classes = [
        {"title": n, "shape": "any", "color": f"#00{i}0FF"} for i, n in enumerate(NAMES) if i
    ]
    root.mkdir(parents=True)
    (root / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    objects = []
    for thing in THINGS:
        outline = [[round(x), round(y)] for x, y in thing.outline]
        points = {"exterior": outline, "interior": thing.holes}
        objects.append({"classTitle": thing.name, "geometryType": "polygon", "points": points})
    packed = base64.b64encode(zlib.compress(ring_png("RGBA"))).decode()
    bitmap = {"classTitle": "person", "geometryType": "bitmap",
              "bitmap": {"data": packed, "origin": RING_AT}}  # fmt: skip
    for seed, (stem, split) in enumerate(zip(STEMS, ("train", "train", "val"), strict=True)):
        photo(root / f"ds 1/img/{stem}.png", seed)
        own = [*objects[:2], bitmap if seed else objects[2]]
        path = root / f"ds 1/ann/{stem}.png.json"
        path.parent.mkdir(exist_ok=True)
        size = {"height": SIZE[0], "width": SIZE[1]}
        path.write_text(json.dumps({"size": size, "objects": own, "tags": [{"name": split}]}))
    return root


def yolo(root: Path) -> Path:
    """The largest first, whatever the order of lines: RING's place is taken by a small triangle."""
    lines = []
    for thing in reversed(HOLELESS):
        pairs = [f"{x / SIZE[1]:.8f} {y / SIZE[0]:.8f}" for x, y in thing.outline]
        lines.append(f"{NAMES.index(thing.name) - 1} {' '.join(pairs)}")
    lines.append("0 0.5 0.5 0.1 0.1")
    for seed, (stem, split) in enumerate(zip(STEMS, ("train", "train", "valid"), strict=True)):
        photo(root / f"{split}/images/{stem}.jpg", seed)
        path = root / f"{split}/labels/{stem}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines))
    names = "\n".join(f"  {i}: {name}" for i, name in enumerate(NAMES[1:]))
    (root / "data.yaml").write_text(
        f"train: ../train/images\nval: ../valid/images\nnames:\n{names}\n"
    )
    return root


# The export, what it shows, and where the middle of its first pixel is.
EXPORTS: dict[str, tuple[Callable[[Path], Path], tuple[Thing, ...], float]] = {
    "CVAT XML": (cvat, THINGS, 0.5),
    "CVAT XML of a video": (cvat_video, HOLELESS, 0.5),
    "LabelMe": (labelme, THINGS, 0.0),
    "Supervisely": (supervisely, THINGS, 0.0),
    "YOLO": (yolo, HOLELESS, 0.0),
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_shapes_are_drawn_as_geometry_has_them(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, things, centre = EXPORTS[kind]
    root = make(tmp_path / "my export")
    found = labels(root)
    assert len(found) == (4 if "video" in kind else 3)
    for label in found.values():
        require_like(label, things, centre)
    index = open_index(root, "train")
    assert index.layout in kind
    said = capsys.readouterr().err
    assert said.count("converted once") == 1
    left_out = {"CVAT XML": "3 polyline", "LabelMe": "3 point", "YOLO": "3 boxes"}
    if kind in left_out:
        assert f"warning: {root}: left out" in said and left_out[kind] in said
    assert "pixels without a label are background" in said
    assert main(Check(root)) == 0
    shown = capsys.readouterr().out
    assert f"{root}: nothing wrong" in shown and index.layout in shown


def test_frames_of_a_video_are_cut_once(tmp_path: Path) -> None:
    root = cvat_video(tmp_path / "export")
    train, val = (open_index(root, split) for split in ("train", "val"))
    assert [i.name for i in val.items] == ["frame_000003"] and len(train) == 3


def test_frames_of_a_video_as_images_of_cvat_have_no_suffix(tmp_path: Path) -> None:
    """As CVAT 2 writes "CVAT for images 1.1" of a task that is a video."""
    rows = ""
    for frame in range(2):
        photo(tmp_path / f"export/images/frame_{frame:06}.PNG", frame)
        rows += (
            f"<image id='{frame}' name='frame_{frame:06}' width='{SIZE[1]}' height='{SIZE[0]}'>"
            f"{cvat_shape(ROAD, 0) if frame else ''}</image>"
        )
    found = labels(cvat_file(tmp_path / "export", rows))
    require_like(found["frame_000001"], (ROAD,), 0.5)
    assert not found["frame_000000"].any()


def test_the_other_shapes_of_cvat(tmp_path: Path) -> None:
    shapes = (
        "<box label='car' xtl='20' ytl='30' xbr='120' ybr='60' rotation='90' z_order='0'/>"
        "<ellipse label='person' cx='200' cy='150' rx='60' ry='20' z_order='0'/>"
    )
    y, x = np.indices(SIZE)
    wanted = np.zeros(SIZE, np.uint8)
    wanted[(x >= 55) & (x < 85) & (y < 95)] = NAMES.index("car")
    wanted[((x - 200) / 60) ** 2 + ((y - 150) / 20) ** 2 <= 1] = NAMES.index("person")
    (label, *_) = labels(cvat_images(tmp_path / "export", shapes), "val").values()
    assert (label == wanted).mean() > 0.998


def test_the_other_shapes_of_labelme(tmp_path: Path) -> None:
    root = labelme(tmp_path / "export")
    shapes = [
        {
            "label": "car",
            "points": [[120, 60], [20, 60], [20, 30], [120, 30]],
            "shape_type": "rectangle",
        },
        {"label": "person", "points": [[200, 150], [200, 190]], "shape_type": "circle"},
        {"label": "__ignore__", "points": [[0, 200], [9, 239]], "shape_type": "rectangle"},
        {
            "label": "Gehweg ü",
            "points": [[300, 200], [340, 240], [300, 280], [260, 240]],
        },
    ]
    kinds = ("oriented_rectangle", "rotation", "quadrilateral")  # the last two are X-AnyLabeling's
    for path, kind in zip(root.rglob("*.json"), kinds, strict=True):
        own = {"shapes": [*shapes[:3], shapes[3] | {"shape_type": kind}]}
        path.write_text(json.dumps(json.loads(path.read_text()) | own))
    y, x = np.indices(SIZE)
    wanted = np.zeros(SIZE, np.uint8)
    wanted[30:61, 20:121] = NAMES.index("car")
    wanted[np.hypot(x - 200, y - 150) <= 40] = NAMES.index("person")
    wanted[200:240, :10] = 255
    wanted[abs(x - 300) + abs(y - 240) <= 40] = NAMES.index("Gehweg ü")
    (label, *_) = labels(root, "train").values()
    assert (label == wanted).mean() > 0.998 and (label[200:240, :10] == 255).all()


def broken_bitmap(root: Path) -> None:
    for path in supervisely(root).rglob("*.png.json"):
        path.write_text(path.read_text().replace('"origin": [200', '"origin": [300'))


def doctype(root: Path) -> None:
    path = cvat(root) / "annotations.xml"
    path.write_text(path.read_text().replace("<annotations>", "<!DOCTYPE a []><annotations>", 1))


def torn(root: Path) -> None:
    path = cvat(root) / "annotations.xml"
    path.write_bytes(path.read_bytes()[:-40])


def two_points(root: Path) -> None:
    for path in labelme(root).rglob("*.json"):
        content = json.loads(path.read_text())
        content["shapes"][0]["points"] = [[1, 1], [2, 2]]
        path.write_text(json.dumps(content))


def yolo_boxes(root: Path) -> None:
    for path in yolo(root).rglob("labels/*.txt"):
        path.write_text("0 0.5 0.5 0.1 0.1\n")


def darknet(root: Path) -> None:
    photo(root / "obj_train_data/a.png", 0)
    (root / "obj_train_data/a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (root / "obj.names").write_text("car\n")


def yolo_class(root: Path) -> None:
    for path in yolo(root).rglob("labels/*.txt"):
        path.write_text("7 0.1 0.1 0.2 0.2 0.1 0.3\n")


def yolo_pixels(root: Path) -> None:
    for path in yolo(root).rglob("labels/*.txt"):
        path.write_text("0 10 10 200 20 10 30\n")


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (broken_bitmap, "reaches out of its picture"), (doctype, "DOCTYPE"),
        (torn, "not CVAT's XML"), (two_points, "has 2 points"), (yolo_boxes, "holds boxes only"),
        (darknet, "holds boxes only"),
        (yolo_class, "class 7"), (yolo_pixels, "not an outline in 0..1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(make: Callable[[Path], None], cause: str, tmp_path: Path) -> None:
    make(tmp_path / "export")
    try:
        told = [str(fault) for fault in survey(tmp_path / "export", "train").faults]
    except HedgeError as error:
        told = [str(error)]
    assert any(cause in line and str(tmp_path) in line for line in told)
    assert not any("\n" in line for line in told)
