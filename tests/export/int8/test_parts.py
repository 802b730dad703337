"""Calibration in parts: exactly that of one pass, whatever dies, fails or is there already."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from export.__main__ import main
from export.config import Export
from export.given import given
from export.int8 import calibration
from export.int8.parts import Job, PartWorker, job_of, observe_parts
from export.int8.ranges import Histogram, observe
from runtime.errors import HedgeError, IncompleteError
from runtime.fleet.driver import Pool
from tests.export.foreign.networks import write_network
from tests.runtime.fleet.workers import Here

SIZE = (48, 64)
MakeImages = Callable[..., Path]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Hardswish()]
    _, network = given(nn.Sequential(*layers, nn.Conv2d(8, 4, 1)), Export(size=SIZE))
    path = tmp_path_factory.mktemp("graph") / "fp32.onnx"
    network.write(SIZE, SIZE, 1, path)
    return path


@pytest.fixture
def photos(make_images: MakeImages, tmp_path: Path) -> Path:
    return make_images(tmp_path / "photos", 20, "f{:02}")


@pytest.fixture
def job(graph: Path, photos: Path, tmp_path: Path) -> Job:
    """Four parts, the last of two images."""
    images = calibration.from_folder(photos, 20)
    return replace(job_of(graph, images, SIZE, tmp_path / "parts", 1), images=6)


def in_parts(job: Job, pool: Pool) -> dict[str, Histogram]:
    return observe_parts(job, lambda: nullcontext(pool))


def assert_one_pass(found: dict[str, Histogram], job: Job) -> None:
    wanted = observe(job.graph, job.calibration.frames(SIZE))
    assert list(found) == list(wanted) and len(found) >= 2, found
    for name, histogram in wanted.items():
        assert repr(found[name]) == repr(histogram), name
        assert (found[name].counts == histogram.counts).all(), name


def nobody() -> AbstractContextManager[Pool]:
    raise AssertionError("no worker is needed")


def counts(job: Job) -> list[Path]:
    return sorted(job.out.glob("*.counts"))


def test_parts_add_up_to_one_pass_and_are_done_once(job: Job) -> None:
    pool = Here(PartWorker(job))
    assert_one_pass(in_parts(job, pool), job)
    kept = counts(job)
    assert pool.worked == len(kept) == 4
    assert_one_pass(observe_parts(job, nobody), job)
    content = kept[0].read_bytes()
    kept[0].write_bytes(content.replace(b"1", b"2", 1))
    kept[1].unlink()
    pool = Here(PartWorker(job))
    assert_one_pass(in_parts(job, pool), job)
    assert pool.worked == 2 and counts(job) == kept and kept[0].read_bytes() == content


def test_an_image_that_changed_is_observed_anew(job: Job) -> None:
    in_parts(job, Here(PartWorker(job)))
    paths = job.calibration.paths
    paths[7].write_bytes(paths[0].read_bytes())
    pool = Here(PartWorker(job))
    assert_one_pass(in_parts(job, pool), job)
    assert pool.worked == 1


def test_what_failed_is_named_and_done_by_the_next_start(job: Job) -> None:
    image = job.calibration.paths[19]
    whole = image.read_bytes()
    image.write_bytes(whole[:60])
    with pytest.raises(IncompleteError, match=r"1 of 4 .*images 18 to 20 of photos: .*f19\.png"):
        in_parts(job, Here(PartWorker(job)))
    image.write_bytes(whole)
    pool = Here(PartWorker(job))
    assert_one_pass(in_parts(job, pool), job)
    assert pool.worked == 1


def test_the_command_on_workers_of_ray(photos: Path, tmp_path: Path) -> None:
    """A network of others; one of ours is observed by the same graph."""
    network = write_network(tmp_path / "net.onnx", sides=SIZE)
    config = Export(network, int8=True, data=photos, calibration=20, out=tmp_path / "here")
    main(config)
    fleet = replace(config, out=tmp_path / "fleet", fleet=tmp_path / "parts", cores=1)
    main(fleet)
    scales = [
        (folder / "net-int8" / "scales.json").read_bytes() for folder in (config.out, fleet.out)
    ]
    assert scales[0] == scales[1]
    kinds = sorted(path.suffix for path in (tmp_path / "parts").iterdir())
    assert kinds == [".counts", ".onnx"]


@pytest.mark.parametrize("asked", [{}, {"fp16": True}, {"int8": True, "scales": Path("s.json")}])
def test_a_fleet_is_for_calibration(asked: dict) -> None:
    with pytest.raises(HedgeError, match="--fleet is for --int8 that calibrates"):
        Export(fleet=Path("parts"), **asked)
