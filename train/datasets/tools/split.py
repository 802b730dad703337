"""A split into train and val for an export without one: the same each time, and no neighbours.

Two frames of one video, or two pictures of one numbered sequence, show almost the same. Were one
learned and the other scored, the score would say little, so a sequence stays together.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from train.datasets.tools.export import Picture

_SHARE = 5  # one picture in so many is for val


def with_splits(pictures: Sequence[Picture], root: Path) -> tuple[list[str], str]:
    """The split of each picture of the tree at ``root``, and a sentence where one was made.

    Without any split a fifth of the pictures becomes val; with one for training only, a fifth of
    those; with one for validation and none for training, what has no split is for training.
    """
    given = [picture.split for picture in pictures]
    if {"train", "val"} <= set(given) and all(given):
        return given, ""
    if "val" in given and "" in given:
        return [split or "train" for split in given], "pictures without a split are for training"
    pool = "train" if "train" in given else ""
    if pool and "" in given:
        given = [split or "train" for split in given]
    members = [i for i, split in enumerate(given) if split == pool]
    chosen, sentence = _val([pictures[i] for i in members], root)
    taken = {members[i] for i in chosen}
    made = ["val" if i in taken else split or "train" for i, split in enumerate(given)]
    return made, sentence if members else ""


def _val(pictures: Sequence[Picture], root: Path) -> tuple[list[int], str]:
    """The positions of the pictures that become val, and how they were chosen."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, picture in enumerate(pictures):
        groups[_sequence(picture, root)].append(i)
    total = len(pictures)
    wanted = max(total // _SHARE, 1) if total > 1 else 0
    chosen: list[int] = []
    for key in sorted(groups, key=lambda key: hashlib.sha256(key.encode()).digest()):
        if len(chosen) + len(groups[key]) <= wanted:
            chosen += groups[key]
    together = f"of {total} pictures became val, as the export has no split for it"
    if 2 * len(chosen) >= wanted:
        return chosen, f"{len(chosen)} {together}; sequences were kept together"
    longest = max(groups.values(), key=len)
    tail = sorted(longest, key=lambda i: _natural(pictures[i].image.name))[-wanted:]
    return tail, (
        f"the last {len(tail)} {together}; they are one sequence with others in train, so that "
        "the score flatters: label another drive or day for val"
    )


def _sequence(picture: Picture, root: Path) -> str:
    """What the frames of one sequence share: their video, or their name without the last number,
    behind which all may have one word ("0001_rgb").

    Roboflow's augmented copies of a picture share what stands before ``.rf.``.
    """
    if picture.video:
        return picture.video
    stem = re.sub(r"[_-](jpe?g|png)$", "", picture.image.stem.split(".rf.")[0], flags=re.IGNORECASE)
    unnumbered = re.sub(r"[0-9]+([^0-9]*)$", r"#\1", stem)
    return f"{picture.image.parent.relative_to(root).as_posix()}/{unnumbered}"


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names by their value."""
    return [
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split("([0-9]+)", name)
    ]
