"""The kinds of inputs: what each is made of, how it is damaged, and who judges it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.equipment.bundles import make_bundle
from tests.equipment.damage import holed
from tests.equipment.pictures import CLASSES, picture, save_ids
from tests.equipment.videos import make_clip, make_timed, noise
from tests.fuzz import judges
from tests.fuzz.case import Case, Cases
from tests.fuzz.command_lines import command_line, command_lines, lay_out
from tests.fuzz.exports import exports
from tests.fuzz.mutations import changed, changes, edited, edits, only_cut, written
from tests.fuzz.worker import Judge

_IDS = picture().argmax(axis=2).astype(np.uint8)


def damaged(whole: list[Path], judge: Judge, exact: Callable[[Path, Any], bool]) -> Cases:
    """Files of ``whole`` with damaged bytes; exact: whether these edits of a file must be seen."""

    def case(path: Path, done: Any) -> Case:
        data = edited(path.read_bytes(), done)
        like = path if exact(path, done) else None
        return Case({path.name: data}, path.name, judge, f"{path.name} {done}", like)

    return st.builds(case, st.sampled_from(whole), edits())


def manifests(folder: Path) -> Cases:
    """Manifests that are damaged, or changed with a digest that fits."""
    bundle = make_bundle(folder / "bundle")
    model, sealed = ((bundle / n).read_bytes() for n in ("model.onnx", "manifest.json"))
    content = json.loads(sealed)

    def case(data: bytes, story: str, like: Path | None = bundle) -> Case:
        contents = {"model.onnx": model, "manifest.json": data}
        return Case(contents, "", judges.manifest, story, like)

    def resealed(done: Any) -> Case:
        tree = changed(content, done)
        if isinstance(tree, dict):
            try:
                body = msgspec.json.encode(tree | {"digest": ""}, order="deterministic")
            except (TypeError, ValueError, OverflowError, UnicodeError):
                body = b""  # no sender could seal it
            tree["digest"] = hashlib.sha256(body).hexdigest()
        return case(written(tree), f"sealed {done}", None)

    return (
        edits().map(lambda done: case(edited(sealed, done), str(done)))
        | changes().map(lambda done: case(written(changed(content, done)), str(done), None))
        | changes().map(resealed)
    )


def class_lists(folder: Path) -> Cases:
    """Class lists as people write them, as trees with nonsense and as damaged bytes."""
    plain = json.loads(CLASSES.to_json())
    rows = [
        {"name": name, "color": "#10203" + str(at), "id": at * 7, "trainId": (255, 0, 1)[at]}
        for at, name in enumerate(CLASSES.names)
    ]
    trees = st.sampled_from([plain, {"classes": rows, "ignore": [9]}, list(CLASSES.names)])

    def case(data: bytes, story: Any) -> Case:
        return Case({"classes.json": data}, "classes.json", judges.classes, str(story))

    return st.builds(lambda tree, d: case(written(changed(tree, d)), d), trees, changes()) | (
        st.builds(lambda t, d: case(edited(json.dumps(t).encode(), d), d), trees, edits())
    )


def data_lists(folder: Path) -> Cases:
    """Lists of files beside a data set, damaged."""
    contents = dict(_data_set(folder))
    whole = contents["train.txt"]

    def case(done: Any, wide: bool) -> Case:
        start = whole.decode().encode("utf-16") if wide else whole
        data = contents | {"train.txt": edited(start, done)}
        return Case(data, "train.txt", judges.data_list, str(done))

    return st.builds(case, edits(), st.booleans())


def _data_set(folder: Path) -> dict[str, bytes]:
    Image.fromarray(picture()[..., ::-1].copy()).save(folder / "a.png")
    save_ids(folder / "a_label.png", _IDS)
    one = (folder / "a.png").read_bytes(), (folder / "a_label.png").read_bytes()
    lines = "# images\na.png, a_label.png\nb.png,b_label.png\n\n"
    return {
        "a.png": one[0], "b.png": one[0], "a_label.png": one[1], "b_label.png": one[1],
        "train.txt": lines.encode(), "val.txt": lines.encode(), "classes.json": CLASSES.to_json(),
    }  # fmt: skip


def images(folder: Path) -> Cases:
    """Images of nine formats; a PNG says when it is damaged, others when they are cut."""
    noise = np.random.default_rng(0).normal(0, 9, (48, 64, 3))
    rgb = Image.fromarray((picture(0, (48, 64))[..., ::-1] + noise).clip(0, 255).astype(np.uint8))
    whole = []
    for suffix in ("png", "jpg", "bmp", "gif", "tiff", "webp", "ppm", "jp2", "avif"):
        rgb.save(folder / f"a.{suffix}")
        whole.append(folder / f"a.{suffix}")
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "turned.jpg", exif=exif)
    rgb.convert("P").save(folder / "palette.png")
    whole += [folder / "turned.jpg", folder / "palette.png"]
    return damaged(whole, judges.image, _tells)


def labels(folder: Path) -> Cases:
    """Label images by ids, by a palette and by colours."""
    ids = Image.fromarray(_IDS)
    palette = ids.convert("P")
    palette.putpalette([value for color in CLASSES.colors for value in color])
    colors = palette.convert("RGB")
    made = {"ids.png": ids, "palette.png": palette, "colors.png": colors, "ids.tiff": ids,
            "ids.bmp": ids, "few.png": ids.convert("1")}  # fmt: skip
    for name, image in made.items():
        image.save(folder / name)
    return damaged([folder / name for name in made], judges.label, _tells)


def _tells(path: Path, done: Any) -> bool:
    return path.suffix == ".png" or only_cut(done)


def checkpoints(folder: Path) -> Cases:
    """Checkpoints with damaged bytes, and with other contents and a digest that fits."""
    import torch

    from train.checkpoint import Checkpoint, read_tensors, write_tensors
    from train.config import ModelConfig, TrainConfig

    path = folder / "tiny.pt"
    weights = {f"backbone.{i}": torch.arange(60.0).reshape(3, 4, 5) / (i + 1) for i in range(4)}
    model = ModelConfig("mobilenet_v2", len(CLASSES))
    training = {"optimizer": {"state": {0: torch.ones(7)}, "groups": [{"lr": 0.1}]}}
    Checkpoint(TrainConfig(), model, CLASSES, (48, 64), weights, 1, 10, 0.5, training).save(path)
    content = read_tensors(path)
    plain = {key: value for key, value in content.items() if key not in ("weights", "training")}

    def crafted(done: Any) -> Case:
        tree = changed(plain, done)
        tree = tree if isinstance(tree, dict) else {"format": tree}
        write_tensors(folder / "crafted.pt", {"weights": weights, "training": {}} | tree)
        data = (folder / "crafted.pt").read_bytes()
        return Case({"crafted.pt": data}, "crafted.pt", judges.network, f"crafted {done}")

    return damaged([path], judges.checkpoint, lambda *_: True) | changes().map(crafted)


def graphs(folder: Path) -> Cases:
    """Damaged graphs, under the old seal or under one that fits."""
    bundle = make_bundle(folder / "bundle")
    model, sealed = (bundle / "model.onnx").read_bytes(), (bundle / "manifest.json").read_bytes()

    def case(done: Any, judge: Judge, fits: bool) -> Case:
        data = edited(model, done)
        content = json.loads(sealed)
        if fits:
            content["files"]["model.onnx"] = hashlib.sha256(data).hexdigest()
            body = msgspec.json.encode(content | {"digest": ""}, order="deterministic")
            content["digest"] = hashlib.sha256(body).hexdigest()
        contents = {"model.onnx": data, "manifest.json": json.dumps(content).encode()}
        story = f"{'sealed ' if fits else ''}{done}"
        return Case(contents, "", judge, story, None if fits else bundle)

    judged_by = st.sampled_from([judges.openvino, judges.onnxruntime])
    return st.builds(case, edits(), judged_by, st.integers(0, 9).map(lambda n: n > 0))


# Containers that tell how much they hold; of the others nobody can know what is missing.
_PROMISING = {".mp4", ".mov", ".mkv", ".webm", ".avi"}


def videos(folder: Path) -> Cases:
    """Videos in eight containers."""
    codecs = dict.fromkeys(("mp4", "mov", "mkv", "ts", "flv", "h264"), "libx264")
    rate = Fraction(25)
    times = [number / rate for number in range(30)]
    whole = [
        make_timed(folder / f"a.{suffix}", times, codec, rate)
        for suffix, codec in (codecs | {"avi": "mpeg4", "webm": "libvpx-vp9"}).items()
    ]

    def exact(path: Path, done: Any) -> bool:
        return path.suffix in _PROMISING

    return damaged(whole, judges.video, exact)


_GROUP = 12  # frames from one key frame to the next


def recordings(folder: Path) -> Cases:
    """Recordings that promise nothing, with a hole inside a group of pictures, which they tell.

    Without the first or the last pictures of a group, or a whole one, a raw stream is one as well.
    """
    rate = Fraction(25)
    times = [number / rate for number in range(4 * _GROUP)]
    codecs = {"h264.ts": "libx264", "hevc.ts": "libx265", "mpeg2.ts": "mpeg2video",
              "a.flv": "libx264", "a.h264": "libx264", "a.hevc": "libx265"}  # fmt: skip
    whole, places = [], {}
    for name, codec in codecs.items():
        path = make_timed(folder / name, times, codec, rate, image=noise, gop=_GROUP)
        with av.open(str(path)) as container:
            places[path] = [packet.pos for packet in container.demux(video=0) if packet.size]
        whole.append(path)

    def case(path: Path, way: str, first: int, count: int, seed: int) -> Case:
        start, end = (places[path][at] + 40 for at in (first, first + count))
        data = holed(path.read_bytes(), start, end, way, seed)
        story = f"{path.name} {way} {start}..{end} {seed}"
        return Case({path.name: data}, path.name, judges.video, story, path)

    inside = st.integers(1, 5) | st.integers(1, 5).map(lambda at: at + _GROUP)
    ways = st.sampled_from(["cut", "zeroed", "flipped"])
    return st.builds(
        case, st.sampled_from(whole), ways, inside, st.integers(1, 3), st.integers(0, 1 << 16)
    )


def options(folder: Path) -> Cases:
    """Command lines with nonsense, in a folder with inputs of every kind."""
    contents = _data_set(folder)
    bundle = make_bundle(folder / "bundle")
    contents |= {f"bundle/{path.name}": path.read_bytes() for path in bundle.iterdir()}
    contents["clip.mp4"] = make_clip(folder / "clip.mp4", 3).read_bytes()
    checkpoints(folder)  # leaves one
    contents["tiny.pt"] = (folder / "tiny.pt").read_bytes()

    def case(words: list[str]) -> Case:
        own = contents | {"line.json": json.dumps(words).encode()}
        return Case(own, "line.json", command_line, " ".join(words), prepare=lay_out)

    return command_lines().map(case)


KINDS: dict[str, Callable[[Path], Cases]] = {
    "manifests": manifests,
    "class lists": class_lists,
    "list files": data_lists,
    "exports": exports,
    "images": images,
    "labels": labels,
    "checkpoints": checkpoints,
    "graphs": graphs,
    "videos": videos,
    "recordings": recordings,
    "options": options,
}
