"""A run goes on from its last checkpoint, or says why it cannot."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from runtime.errors import HedgeError, OutputError
from tests.train.test_loop import Make, assert_same, rows, weights
from train.__main__ import main
from train.checkpoint import Checkpoint, read_tensors, write_tensors
from train.config import TrainConfig


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {
            "ema": 0.9,
            "ohem": 0.5,
            "freeze_bn": 1,
            "workers": 2,
            "oversample": 0.5,
            "jaccard": 0.5,
            "aux_weight": 0.4,
        },
    ],
)
def test_a_resumed_run_ends_with_the_same_weights(
    tiny_config: Make, tmp_path: Path, extra: dict[str, object]
) -> None:
    whole, parted = tiny_config(tmp_path / "a", **extra), tiny_config(tmp_path / "b", **extra)
    main(whole)
    main(replace(parted, until=1, workers=0))
    main(replace(parted, resumed=parted.run))
    assert_same(weights(whole.run / "last.pt"), weights(parted.run / "last.pt"))
    names = ("epoch", "loss", "miou")
    a, b = ([[row[n] for n in names] for row in rows(c.run)] for c in (whole, parted))
    assert a == b


def test_a_run_of_a_version_with_fewer_options_resumes(tiny_config: Make, tmp_path: Path) -> None:
    """Its decoder is the one that there was before there was a choice."""
    config = tiny_config(tmp_path, decoder="concat", output_stride=16)
    main(replace(config, until=1))
    last = config.run / "last.pt"
    content = read_tensors(last)
    del content["config"]["loss_stride"], content["config"]["decoder"], content["digest"]
    write_tensors(last, content)
    main(replace(config, decoder=None, resumed=config.run))
    assert Checkpoint.load(last).model.decoder == "concat"
    assert [row["epoch"] for row in rows(config.run)] == [1, 2]


def test_a_damaged_last_checkpoint_costs_its_epoch_only(
    tiny_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(tmp_path)
    main(config)
    last = config.run / "last.pt"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    first = rows(config.run)[0]
    main(replace(config, resumed=config.run))
    assert "previous.pt is taken instead" in capsys.readouterr().err
    last.with_name("whole.pt").write_bytes(whole)
    assert_same(weights(last.with_name("whole.pt")), weights(last))
    assert rows(config.run)[0] == first and len(rows(config.run)) == 2
    assert last.with_name("results.png").exists()
    capsys.readouterr()
    main(replace(config, until=1, force=True))
    assert not last.with_name("previous.pt").exists()
    assert not last.with_name("results.png").exists(), "one epoch draws no curve, and says so"
    assert "results.png" not in capsys.readouterr().out


def test_an_existing_run_is_not_replaced(tiny_config: Make, trained_run: Path) -> None:
    config = tiny_config(trained_run.parent)
    with pytest.raises(OutputError, match=r"--resume .* continues it, --force replaces it"):
        main(config)


def test_resuming_with_other_settings_names_them(tiny_config: Make, trained_run: Path) -> None:
    config = tiny_config(trained_run.parent, epochs=20, variant="dlse", resumed=trained_run)
    with pytest.raises(HedgeError, match="variant dlse_hed → dlse"):
        main(config)


@pytest.mark.parametrize("content", ["", "[]", '{"epochs": "ten"}', "[" * 100_000])
def test_settings_that_are_none_say_so(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(HedgeError, match=r"config\.json: not the settings of a run: "):
        TrainConfig.resume(tmp_path)


def test_resuming_nothing_says_so(tiny_config: Make, tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match=r"last\.pt: no such file"):
        main(tiny_config(tmp_path, resumed=tmp_path / "tiny"))


def test_resuming_a_run_of_another_default_says_so(
    tiny_config: Make, trained_run: Path, tmp_path: Path
) -> None:
    """Its config leaves open where edges come from, which the network in the file has decided."""
    saved = Checkpoint.load(trained_run / "last.pt")
    config = tiny_config(tmp_path, epochs=14, batch=2, lr=8e-3, resumed=tmp_path / "tiny")
    config.run.mkdir()
    replace(saved, model=replace(saved.model, hed="lite")).save(config.run / "last.pt")
    with pytest.raises(HedgeError, match=r"other settings \(hed lite → shared\)"):
        main(config)


def test_a_run_goes_on_in_another_place_with_other_images(
    tiny_config: Make, blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rate is that of its epoch and its size its own, however many images there are now."""
    config = tiny_config(tmp_path / "here", batch=2, epochs=3)
    main(replace(config, until=1))
    run = tmp_path / "there" / "moved"
    run.parent.mkdir()
    config.run.rename(run)
    shutil.rmtree(config.out)
    data = shutil.copytree(blocks, tmp_path / "fewer")
    for kind in ("images", "labels"):
        first, *_, last = sorted((data / kind / "train").iterdir())
        for path in {*(data / kind / "train").iterdir()} - {first, last}:
            path.unlink()
        small = cv2.imread(str(first), cv2.IMREAD_UNCHANGED)[:32, :32]
        cv2.imwrite(str(first), small)
    monkeypatch.chdir(run)
    main(replace(TrainConfig.resume(Path()), data=data))
    assert [row["lr"] > 0 for row in rows(run)] == [True, True, False]  # type: ignore[operator]
    assert Checkpoint.load(run / "last.pt").size == (48, 64)
    assert not config.out.exists()


@pytest.mark.parametrize("name", ["camvid/first", "..", ".hidden"])
def test_a_name_that_the_newest_run_is_not_found_by_is_refused(
    tiny_config: Make, tmp_path: Path, name: str
) -> None:
    with pytest.raises(HedgeError, match=r"--name .*: not a plain name"):
        main(tiny_config(tmp_path, name=name))
