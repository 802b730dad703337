"""Which cells a run has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.cells import bare_library
from benchmarks.run import runner
from benchmarks.run.plan import COMPILED, NNCF, PEERS, Asked, Planned, Shared, models, plan
from benchmarks.run.record import Record
from runtime.bundle.manifest import Manifest
from runtime.bundle.measured import Int8, Measured
from runtime.errors import HedgeError

CPU = ("openvino", "onnxruntime")


def _plan(paths: Sequence[Path], tmp_path: Path, **asked: object) -> list[Planned]:
    settings = {"backends": CPU, "peers": "first", "checkpoints": (), "quick": False} | asked
    shared = Shared(2, tmp_path / "frames.json", tmp_path)
    return plan(models(paths), Asked(**settings), shared)  # type: ignore[arg-type]


def _names(planned: Sequence[Planned], kind: str) -> list[str]:
    return [p.cell.name for p in planned if p.cell.kind == kind]


def _checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "best.pt").touch()
    return folder


def test_bundles_times_backends(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundles" / "a")
    make_bundle(tmp_path / "bundles" / "b", batch=2)
    planned = _plan([tmp_path / "bundles"], tmp_path, peers="none")
    assert _names(planned, "bundle") == [f"{name} {b}" for name in "ab" for b in CPU]
    assert len(planned) == 4
    last = planned[-1].cell
    assert (last.bundle, last.backend, last.input) == ("b", "onnxruntime", (2, 24, 32))
    assert (
        last.model_mb and planned[-1].spec and planned[-1].spec.module == "benchmarks.cells.engine"
    )
    scratches = {p.spec.scratch for p in planned if p.spec}
    assert len(scratches) == len(planned), "each process writes to a folder of its own"


def test_the_shipped_model_is_named_and_has_its_weights_beside_it(tmp_path: Path) -> None:
    planned = _plan([Path("street19")], tmp_path)
    assert _names(planned, "bundle") == [f"street19-int8 {backend}" for backend in CPU]
    torch = next(p.spec for p in planned if p.cell.backend == "pytorch")
    assert torch and [path.name for path in torch.weights] == ["street19.pt"]


def test_a_long_name_of_a_bundle_names_no_folder(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """A letter of Chinese is three bytes in a name, of which 255 are the most that systems take."""
    for planned in _plan([make_bundle(tmp_path / ("街" * 80))], tmp_path, peers="all"):
        if planned.spec is not None:
            planned.spec.scratch.mkdir()


def test_nncf_quantises_the_fp32_bundle_of_the_same_weights(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    one, other = make_bundle(tmp_path / "one"), make_bundle(tmp_path / "other", size=(48, 64))
    manifest = Manifest.load(other)
    replace(manifest, precision="int8").save(other)
    image = tmp_path / "calibration.png"
    planned = _plan([one, other], tmp_path, peers="nncf", calibration=(image,))
    cells = [p for p in planned if p.cell.kind == "peer"]
    assert [p.cell.name for p in cells] == [*NNCF, *(f"{way} · other" for way in NNCF)]
    for mine, none in zip(cells[:3], cells[3:], strict=True):
        assert mine.spec is not None and mine.spec.bundle == one and mine.spec.weights == (image,)
        assert mine.spec.module == "benchmarks.cells.nncf" and mine.cell.backend == "openvino"
        assert (mine.spec.longer > 0) == ("control" in mine.cell.name), "it takes minutes"
        assert none.spec is None and "no FP32 bundle of brightest" in (none.cell.error or "")


def test_peers_and_bare_libraries_are_the_first_models(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    # The weights' name is the manifest's: both folders hold "brightest", at two input sizes.
    one = make_bundle(tmp_path / "one")
    two = make_bundle(tmp_path / "two", size=(48, 64))
    run = _checkpoint(tmp_path / "runs" / "brightest")
    planned = _plan([one, two], tmp_path, checkpoints=(run,))
    assert _names(planned, "peer") == list(PEERS["cpu"])
    ways = [f"one {b} ({way})" for b in CPU for way in bare_library.WAYS[b]]
    assert _names(planned, "bare") == ways
    assert all(
        p.spec and p.spec.weights == (run / "best.pt",) for p in planned if p.cell.kind == "peer"
    )
    everything = _plan([one, two], tmp_path, peers="all", checkpoints=(run,))
    assert _names(everything, "peer") == [
        *PEERS["cpu"],
        *(f"{way} · two" for way in PEERS["cpu"]),
    ]
    assert len(_names(everything, "bare")) == 2 * len(ways)
    assert len({p.cell.name for p in everything}) == len(everything)


def test_bundles_of_one_model_share_its_peers(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    bundles = [make_bundle(tmp_path / name) for name in ("one", "two")]
    planned = _plan(bundles, tmp_path, peers="all")
    assert _names(planned, "peer") == list(PEERS["cpu"])
    assert {p.cell.bundle for p in planned if p.cell.kind == "bare"} == {"one", "two"}


def test_peers_are_on_the_bundles_devices(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "one")
    for backends, devices in {
        ("tensorrt",): ["cuda"],
        ("tensorrt_rtx", "openvino"): ["cuda", "cpu"],
        CPU: ["cpu"],
    }.items():
        planned = _plan([bundle], tmp_path, backends=backends)
        assert _names(planned, "peer") == [way for device in devices for way in PEERS[device]]
        for one in planned:
            ours = one.cell.backend.startswith("tensorrt") or one.cell.way in PEERS["cuda"]
            assert one.cell.device == ("cuda" if ours else "cpu")
    places = {"onnxruntime": "CUDA", "openvino": "GPU"}  # Intel's: PyTorch is not there
    shared = Shared(2, tmp_path / "frames.json", tmp_path, places)
    found = plan(models([bundle]), Asked(tuple(places), "first", (), quick=True), shared)
    assert [p.cell.device for p in found if p.cell.kind == "bundle"] == ["cuda", "cpu"]


@pytest.mark.parametrize(("free", "room"), [(3500.0, False), (4500.0, True), (None, True)])
def test_cells_start_together_where_the_gpu_has_room(
    free: float | None, room: bool, make_bundle: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    planned = _plan(
        [make_bundle(tmp_path / "one")], tmp_path, backends=("tensorrt", "openvino"), peers="none"
    )
    on_gpu, on_cpu = planned
    monkeypatch.setattr(runner, "free_mb", lambda: 1e6)
    monkeypatch.setattr(runner, "gpu_free_mb", lambda: free)
    record = Record(planned)
    record.change(on_gpu, gpu_mb=3000.0)
    run = runner.Run(record, None, None, tmp_path, print)  # type: ignore[arg-type]
    group: Any = [(on_gpu, SimpleNamespace(peak_mb=lambda: 100.0))]
    assert run._has_room(group, on_gpu) == room
    assert run._has_room(group, on_cpu), "the GPU's memory is nothing to it"


def test_a_quick_run_leaves_out_what_takes_minutes(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    bundles = [make_bundle(tmp_path / name) for name in ("one", "two")]
    planned = _plan(bundles, tmp_path, quick=True)
    assert not set(_names(planned, "peer")) & set(COMPILED)
    assert _names(planned, "bare") == ["one openvino (loop)", "one openvino (loop + tail)"]


def test_without_a_checkpoint_peers_say_how_to_give_one(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    planned = _plan([make_bundle(tmp_path / "bundles" / "tiny")], tmp_path)
    lost = [p for p in planned if p.cell.kind == "peer"]
    assert all(p.spec is None and "--checkpoints RUN" in str(p.cell.error) for p in lost)
    assert all(p.spec is not None for p in planned if p not in lost)


def test_runs_are_found_by_name_beside_the_bundles(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundles" / "tiny")
    run = _checkpoint(tmp_path / "runs" / "brightest")
    _checkpoint(tmp_path / "runs" / "other")
    (run / "last.pt").touch()
    planned = _plan([bundle], tmp_path)
    weights = {p.spec.weights for p in planned if p.cell.kind == "peer" and p.spec}
    assert weights == {(run / "best.pt", run / "last.pt")}


def test_all_runs_that_are_given_are_tried_the_namesake_first(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundles" / "tiny")
    other, own = (_checkpoint(tmp_path / name) for name in ("other", "brightest"))
    planned = _plan([bundle], tmp_path, checkpoints=(other, own / "best.pt"))
    weights = {p.spec.weights for p in planned if p.cell.kind == "peer" and p.spec}
    assert weights == {(own / "best.pt", other / "best.pt")}


def test_two_trainings_of_one_name_are_two_models(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """What one of them loses is not told against the other's PyTorch."""
    old = [make_bundle(tmp_path / f"old/tiny-{kind}", precision=kind) for kind in ("fp32", "int8")]
    new = make_bundle(tmp_path / "new/tiny-int8", precision="int8")
    assert {model.weights for model in models(old)} == {"brightest"}
    place, other = (str(tmp_path / folder / "brightest") for folder in ("old", "new"))
    assert [model.weights for model in models([*old, new])] == [place, place, other]
    run = _checkpoint(tmp_path / "runs" / "brightest")
    planned = _plan([*old, new], tmp_path, peers="all", checkpoints=(run,))
    peers = [p.cell for p in planned if p.cell.kind == "peer"]
    assert [cell.model for cell in peers[:: len(PEERS["cpu"])]] == [place, other]
    assert all(p.spec and p.spec.weights for p in planned if p.cell.kind == "peer")


def test_folders_of_one_name_are_told_apart(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    paths = [make_bundle(tmp_path / folder / "tiny") for folder in ("x", "y")]
    assert [model.name for model in models([*paths, *paths])] == [str(path) for path in paths]


def test_what_is_no_bundle_is_named(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HedgeError, match="no bundle here; make one: python -m export"):
        models([tmp_path / "nowhere"])
    monkeypatch.chdir(tmp_path / "bundles" / "tiny")
    with pytest.raises(HedgeError, match="bundles: no bundle here"):
        models([])
    (bundle / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(HedgeError, match="sha256 differs"):
        models([bundle])


def test_what_a_search_measured_is_taken_along(bundle: Path) -> None:
    (model,) = models([bundle])
    assert model.search() is None
    manifest = Manifest.load(bundle)
    (bundle / "sensitivity.json").write_text('{"layers": [1]}')
    manifest.files["sensitivity.json"] = "any"
    int8 = Int8(layers=1, kept=(), search="sensitivity.json")
    manifest = replace(manifest, measured=Measured(int8=int8))
    assert replace(model, manifest=manifest).search() == {"layers": [1]}
