"""``python -m export --int8``: a bundle with its passport, or one line and nothing published."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from export.__main__ import main
from export.config import Export
from export.int8.calibration import Scales
from export.int8.search_log import PLOT, TABLE
from export.own import trained
from runtime import files
from runtime.backends.registry import installed_backends, load_engine
from runtime.bundle.manifest import MODEL, Manifest
from runtime.bundle.measured import int8_share
from runtime.errors import GateError, HedgeError
from runtime.segment import Segmenter
from tests.equipment.bundles import spoil_one_weight
from train.checkpoint import Checkpoint
from train.datasets import open_index


@pytest.fixture(scope="module")
def config(trained_run: Path, blocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """An INT8 export of the trained model."""
    out = tmp_path_factory.mktemp("bundles")
    return Export(trained_run, int8=True, data=blocks, out=out)


@pytest.fixture(scope="module")
def exported(config: Export, export_again: Callable[[Export], Manifest]) -> Path:
    """The bundle it makes; for reading only."""
    export_again(config)
    return config.out / "tiny-int8"


def test_the_manifest_is_a_passport(exported: Path, blocks: Path) -> None:
    manifest = Manifest.load(exported)
    passport = manifest.calibration
    assert passport is not None and passport["split"] == "train"
    used = {item.image.name: files.sha256(item.image) for item in open_index(blocks, "train").items}
    assert passport["images"] == used
    assert "resized to the graph's frame" in passport["preprocessing"]
    assert passport["method"] == max(passport["agreement"], key=passport["agreement"].get)
    golden = {name for name in manifest.files if name.startswith("golden/")}
    told = {TABLE, PLOT}  # that plain INT8 holds the budget
    assert {MODEL, "model.cpu.onnx", passport["scales"], *told} == manifest.files.keys() - golden


def test_every_engine_is_measured_beside_pytorch(exported: Path) -> None:
    measured = Manifest.load(exported).measured
    assert measured.split == "val" and measured.images == 3
    backends = set(installed_backends())
    assert measured.arithmetic.keys() == backends
    for counts in measured.arithmetic.values():
        assert 0.5 < int8_share(counts) <= 1
        assert sum(counts.values()) == pytest.approx(measured.multiply_adds, rel=0.1)
    assert backends == measured.miou_by_backend.keys() == measured.iou_by_backend.keys()
    assert measured.latency_ms.keys() == backends | {"pytorch"}
    for backend, miou in measured.miou_by_backend.items():
        classes = measured.iou_by_backend[backend].values()
        assert np.mean(list(classes)) == pytest.approx(miou)
        assert abs(miou - measured.miou_pytorch) <= 0.03
    report = measured.int8
    assert len(report.kept) < 0.1 * report.layers


def test_engines_agree_with_each_other(exported: Path, blocks: Path) -> None:
    index = open_index(blocks, "val")
    frames = [index.read(item)[0][..., ::-1] for item in index.items]
    answers = []
    for backend in ("openvino", "onnxruntime"):
        with Segmenter(exported, backend) as segmenter:
            answers.append(np.stack([segmenter(np.ascontiguousarray(f)) for f in frames]))
    assert (answers[0] == answers[1]).mean() >= 0.99


def test_weights_are_a_quarter(exported: Path) -> None:
    for name in (MODEL, "model.cpu.onnx"):
        graph = onnx.load(exported / name).graph
        kinds = {t.data_type for t in graph.initializer if t.name.endswith("weight_quantized")}
        assert kinds == {onnx.TensorProto.INT8}
        plain = sum(np.prod(t.dims) for t in graph.initializer)
        assert (exported / name).stat().st_size < 1.8 * plain, "a byte a weight, and the graph"


def test_scales_are_used_again(
    config: Export, exported: Path, export_again: Callable[[Export], Manifest], tmp_path: Path
) -> None:
    export_again(replace(config, scales=exported / "scales.json", out=tmp_path))
    first, second = Manifest.load(exported), Manifest.load(tmp_path / "tiny-int8")
    timed = {TABLE, PLOT}  # they hold milliseconds
    assert first.files.keys() == second.files.keys()
    differing = {name for name in first.files if first.files[name] != second.files[name]}
    assert differing <= timed, "to the byte"
    assert first.calibration == second.calibration


def test_scales_of_another_model_are_refused(
    config: Export, exported: Path, tmp_path: Path
) -> None:
    assert config.run is not None
    checkpoint = Checkpoint.load(config.run / "best.pt")
    weights = checkpoint.weights | {"classifier.bias": checkpoint.weights["classifier.bias"] + 1}
    replace(checkpoint, weights=weights).save(tmp_path / "best.pt")
    foreign = replace(
        config, run=tmp_path / "best.pt", scales=exported / "scales.json", out=tmp_path / "out"
    )
    with pytest.raises(HedgeError, match=r"scales\.json: the scales of another model"):
        main(foreign)
    assert not list((tmp_path / "out").iterdir())


def test_evaluation_images_never_calibrate(
    config: Export, exported: Path, blocks: Path, tmp_path: Path
) -> None:
    """Neither from a folder nor hidden in a table of scales."""
    photos = tmp_path / "photos"
    shutil.copytree(blocks / "images" / "train", photos)
    shutil.copy(open_index(blocks, "val").items[0].image, photos / "zebra.png")
    folder = replace(config, calibration_data=photos, out=tmp_path / "out")
    scales = Scales.load(exported / "scales.json", _model(exported))
    images = scales.passport["images"] | {
        "zebra.png": files.sha256(open_index(blocks, "val").items[0].image)
    }
    replace(scales, passport=scales.passport | {"images": images}).save(tmp_path / "s.json")
    table = replace(config, scales=tmp_path / "s.json", out=tmp_path / "out")
    for asked in (folder, table):
        with pytest.raises(HedgeError, match=r"zebra\.png: .* also in the evaluation split"):
            main(asked)
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_calibration_image_is_named(
    config: Export, blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a graph is written, let alone read by an engine."""
    monkeypatch.setattr(trained, "to_onnx", lambda *_: pytest.fail("too late"))
    photos = tmp_path / "photos"
    shutil.copytree(blocks / "images" / "train", photos)
    (photos / "train3.png").write_bytes(b"not a picture")
    with pytest.raises(HedgeError, match=r"train3\.png"):
        main(replace(config, calibration_data=photos, out=tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("content", ["nothing", "a text"])
def test_a_folder_without_images_is_refused(config: Export, tmp_path: Path, content: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    if content == "a text":
        (photos / "notes.txt").touch()
    with pytest.raises(HedgeError, match="photos: no images to calibrate with"):
        main(replace(config, calibration_data=photos, out=tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("backend", installed_backends())
def test_an_engine_with_one_other_weight_is_refused(
    backend: str, exported: Path, tmp_path: Path, resign: Callable[[Path], None]
) -> None:
    """As a fault of a kernel would show: the files are sealed anew, only the labels tell."""
    bundle = shutil.copytree(exported, tmp_path / "bundle")
    manifest = Manifest.load(bundle)
    assert manifest.golden is not None and manifest.golden.bounds.keys() == {"int8"}
    load_engine(bundle, backend, threads=1).close()
    spoil_one_weight(bundle / manifest.graph(backend))
    resign(bundle)
    with pytest.raises(GateError, match=rf"{backend} .* of the golden frames' pixels .*for int8"):
        load_engine(bundle, backend, threads=1)


def test_ruined_ranges_are_not_published(
    config: Export, exported: Path, export_again: Callable[[Export], Manifest], tmp_path: Path
) -> None:
    scales = Scales.load(exported / "scales.json", _model(exported))
    tiny = {name: (low / 50, high / 50) for name, (low, high) in scales.ranges.items()}
    replace(scales, ranges=tiny).save(tmp_path / "s.json")
    with pytest.raises(GateError, match=r"points of mIoU .*tiny-int8-worst\.png; not published"):
        export_again(replace(config, scales=tmp_path / "s.json", out=tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny-int8-worst.png"]


def test_best_is_the_fastest_of_all(
    config: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(replace(config, int8=False, best=True, calibration_method="minmax", out=tmp_path))
    manifest = Manifest.load(tmp_path / "tiny-best")
    fastest = manifest.measured.fastest
    assert manifest.precision == fastest.precision
    pairs = {f"{b} {p}" for b in installed_backends() for p in ("fp32", "fp16", "int8")}
    assert fastest.ms.keys() == pairs
    chosen = fastest.ms[f"{fastest.backend} {fastest.precision}"]
    assert chosen <= 1.03 * min(fastest.ms.values())
    assert f"{fastest.precision} is the fastest here" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-best"]


def test_what_is_out_of_the_best_is_shown_where_it_can_be_seen(
    config: Export, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundles that are tried lie in a folder that is gone in the end."""
    scales = Scales.load(exported / "scales.json", _model(exported))
    tiny = {name: (low / 50, high / 50) for name, (low, high) in scales.ranges.items()}
    replace(scales, ranges=tiny).save(tmp_path / "s.json")
    out = tmp_path / "out"
    main(replace(config, int8=False, best=True, scales=tmp_path / "s.json", out=out))
    picture = out / "tiny-best-int8-worst.png"
    assert f"see {picture}; not published" in " ".join(capsys.readouterr().err.split())
    assert {path.name for path in out.iterdir()} == {"tiny-best", picture.name}


@pytest.mark.parametrize("change", [{"calibration": 0}, {"max_miou_drop": -1.0}])
def test_senseless_settings_are_named(change: dict) -> None:
    with pytest.raises(HedgeError, match=f"--{next(iter(change)).replace('_', '-')}"):
        Export(**change)


def _model(bundle: Path) -> str:
    return msgspec.json.decode((bundle / "scales.json").read_bytes())["model"]
