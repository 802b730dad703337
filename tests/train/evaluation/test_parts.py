"""Evaluation in parts: exactly that of one pass, whatever dies, fails or is there already."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from runtime.errors import HedgeError, IncompleteError
from runtime.fleet.driver import Pool
from tests.runtime.fleet.workers import Here
from train.checkpoint import Checkpoint
from train.datasets import open_index
from train.evaluate import Evaluate, main
from train.evaluation.parts import Job, PartWorker, evaluate_parts
from train.evaluation.run import evaluate_run
from train.evaluation.scoring import Evaluation


@pytest.fixture
def job(trained_run: Path, blocks: Path, tmp_path: Path) -> Job:
    """A part for each of the three images."""
    data = shutil.copytree(blocks, tmp_path / "data")
    run = trained_run / "best.pt"
    return Job(run, data, "val", Checkpoint.load(run).size, tmp_path / "parts", images=1)


def in_parts(job: Job, pool: Pool) -> Evaluation:
    return evaluate_parts(job, open_index(job.data, "val"), lambda: nullcontext(pool))


def at_once(job: Job) -> Evaluation:
    return evaluate_run(Evaluate(job.run, job.data))


def assert_same(found: Evaluation, wanted: Evaluation) -> None:
    assert found.by_image == wanted.by_image
    assert msgspec.json.encode(found.report()) == msgspec.json.encode(wanted.report())


def nobody() -> AbstractContextManager[Pool]:
    raise AssertionError("no worker is needed")


def test_parts_add_up_to_one_pass_and_are_done_once(job: Job) -> None:
    wanted = at_once(job)
    assert wanted.images == 3 and wanted.report().boundary_f
    assert_same(in_parts(job, Here(PartWorker(job))), wanted)
    kept = sorted(job.out.iterdir())
    assert len(kept) == 3
    assert_same(evaluate_parts(job, open_index(job.data, "val"), nobody), wanted)
    kept[0].write_bytes(kept[0].read_bytes()[:40])
    kept[1].unlink()
    pool = Here(PartWorker(job))
    assert_same(in_parts(job, pool), wanted)
    assert pool.worked == 2 and sorted(job.out.iterdir()) == kept


def test_a_label_that_changed_is_counted_anew(job: Job) -> None:
    before = in_parts(job, Here(PartWorker(job)))
    label = open_index(job.data, "val").items[1].label
    Image.fromarray(np.zeros_like(np.asarray(Image.open(label)))).save(label)
    pool = Here(PartWorker(job))
    found = in_parts(job, pool)
    assert pool.worked == 1 and found.report() != before.report()
    assert_same(found, at_once(job))


def test_what_failed_is_named_and_done_by_the_next_start(job: Job) -> None:
    image = open_index(job.data, "val").items[1].image
    whole = image.read_bytes()
    image.write_bytes(whole[:100])
    with pytest.raises(IncompleteError, match=rf"1 of 3 .*images 1 to 2 .*{image.name}"):
        in_parts(job, Here(PartWorker(job)))
    image.write_bytes(whole)
    pool = Here(PartWorker(job))
    assert_same(in_parts(job, pool), at_once(job))
    assert pool.worked == 1


def test_images_that_change_under_a_worker_are_not_counted(job: Job) -> None:
    pool = Here(PartWorker(job))

    @contextmanager
    def changed() -> Iterator[Pool]:
        for item in open_index(job.data, "val").items:
            item.label.touch()
        yield pool

    with pytest.raises(IncompleteError, match="not the images that the command saw"):
        evaluate_parts(job, open_index(job.data, "val"), changed)
    assert not list(job.out.iterdir())


def test_the_command_on_workers_of_ray(job: Job) -> None:
    options = {"fleet": job.out, "cores": 1}
    with pytest.raises(HedgeError, match="--save goes without --fleet"):
        main(Evaluate(job.run, job.data, save=job.out, **options))
    report = job.out.with_suffix(".json")
    main(Evaluate(job.run, job.data, json=report, **options))
    wanted = msgspec.json.encode(at_once(job).report())
    assert msgspec.json.decode(report.read_bytes()) == msgspec.json.decode(wanted)
    assert len(list(job.out.iterdir())) == 1
