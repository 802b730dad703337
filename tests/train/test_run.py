"""A run's folder: one training at a time, and what is there is only replaced by what stands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from runtime import files
from runtime.errors import HedgeError, OutputError
from train.__main__ import main
from train.checkpoint import Checkpoint, write_tensors
from train.config import TrainConfig

Make = Callable[..., TrainConfig]


def test_a_second_training_into_a_run_is_refused(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    with (
        files.locked(config.run),
        pytest.raises(OutputError, match="tiny: another process is writing it"),
    ):
        main(config)
    assert not config.run.exists()


def test_a_damaged_last_checkpoint_resumes_from_the_one_before(
    tiny_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two epochs; the second is lost with its checkpoint, and trained again."""
    config = tiny_config(tmp_path, epochs=3)
    main(replace(config, until=2))
    last = config.run / "last.pt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    capsys.readouterr()
    main(replace(config, resumed=config.run, until=2))
    warning = capsys.readouterr().err
    assert "last.pt: damaged" in warning and "previous.pt is taken instead" in warning
    assert Checkpoint.load(last).epoch == 2
    rows = (config.run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2]
    content = torch.load(last, weights_only=True)
    del content["training"]["optimizer"]
    write_tensors(last, content)
    (config.run / "previous.pt").unlink()
    with pytest.raises(HedgeError, match=r"last\.pt: damaged training state"):
        main(replace(config, resumed=config.run))


@pytest.mark.parametrize("option", ["start", "teacher"])
def test_what_a_run_starts_from_is_the_file_that_was_named(
    option: str, tiny_config: Make, trained_run: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """previous.pt stands in for the last.pt of a run that goes on, and for no other file."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "best.pt").write_bytes(b"damaged")
    shutil.copy(trained_run / "last.pt", other / "previous.pt")
    with pytest.raises(HedgeError, match=r"other/best\.pt: not a plain tensor file"):
        main(tiny_config(tmp_path, backbone=None, **{option: other}))
    assert "previous.pt" not in capsys.readouterr().err


def test_the_best_weights_stay_until_better_ones_replace_them(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tmp_path, until=1)
    main(config)
    before = (config.run / "best.pt").read_bytes()

    def fail(*_: object) -> None:
        raise HedgeError("no step")

    monkeypatch.setattr("train.loop.trainer.Trainer.run", fail)
    with pytest.raises(HedgeError, match="no step"):
        main(replace(config, force=True))
    assert (config.run / "best.pt").read_bytes() == before
    assert not (config.run / "last.pt").exists(), "nothing to resume"
