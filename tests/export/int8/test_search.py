"""The mIoU budget on a network made hard to quantise: the guilty layers are found, no others."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import exporter
from export.config import Export
from export.exporter import publish
from export.int8 import search_log
from export.int8.search import Search
from export.int8.search_bar import SearchBar
from export.int8.search_log import Layer, Log, Step
from export.verify import Budget, Drop
from runtime import cli, files
from runtime.accuracy.metrics import ConfusionMatrix
from runtime.backends.registry import installed_backends
from runtime.bundle.classes import ClassSet
from runtime.bundle.manifest import Manifest
from runtime.errors import GateError, HedgeError

TORN = 2000.0  # how much larger one channel is than the others
BUDGET = Budget(miou=0.5, worst=2.0)
WIDTH, DEPTH = 8, 12
SIZE = (48, 64)  # of the images in ``blocks``


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file that finds the brightest channel by DEPTH convolutions and a classifier.

    One channel before the classifier is TORN times too large, and the classifier's weights make up
    for it: in INT8 the other channels are left with a code.
    """
    random = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}
    nodes, value = [], "image"
    for number in range(DEPTH):
        weights = random.normal(scale=0.02, size=(WIDTH, WIDTH if number else 3, 3, 3))
        for channel in range(3):
            weights[channel, channel] += 1 / 9  # blurs, so that it errs at borders
        tensors[f"weights{number}"] = weights
        inputs, output = [value, f"weights{number}"], f"sum{number}"
        nodes.append(helper.make_node("Conv", inputs, [output], f"conv{number}", pads=[1] * 4))
        value = f"relu{number}"
        nodes.append(helper.make_node("Relu", [output], [value], value))
    tensors[f"weights{DEPTH - 1}"][0] *= TORN
    classifier = np.zeros((3, WIDTH, 1, 1))
    classifier[[2, 1, 0], [0, 1, 2], 0, 0] = (1 / TORN, 1, 1)  # the classes are blue, green, red
    tensors["classifier"] = classifier
    nodes.append(helper.make_node("Conv", [value, "classifier"], ["scores"], "conv_classifier"))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, *SIZE))
        for name in ("image", "scores")
    ]
    constants = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in tensors.items()]
    graph = helper.make_graph(nodes, "torn", ends[:1], ends[1:], constants)
    path = tmp_path_factory.mktemp("torn") / "torn.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


@pytest.fixture(scope="module")
def config(torn: Path, blocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """An INT8 export of that network; min-max, which cannot hide the channel by clipping it."""
    out = tmp_path_factory.mktemp("bundles")
    method, backend = "minmax", installed_backends()[0]
    return Export(
        torn, int8=True, data=blocks, out=out, calibration_method=method, backend=backend
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(config: Export) -> Path:
    """The bundle that a search found."""
    asked = replace(config, max_miou_drop=BUDGET.miou, max_class_drop=BUDGET.worst, name="found")
    return publish(asked)[0].path


def test_without_a_search_it_is_refused(
    config: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(GateError, match=r"points of mIoU .* allowed are 3 points") as caught:
        publish(config)
    lost = float(str(caught.value).split(" loses ")[1].split()[0])
    assert lost > 5
    assert [path.name for path in config.out.iterdir() if path.is_dir()] in ([], ["found-int8"])
    assert not (files.user_cache() / "openvino").exists(), "trials push out no model of the user's"


def test_the_search_ends_inside_the_budget_in_every_engine(found: Path) -> None:
    manifest = Manifest.load(found)
    measured = manifest.measured
    trained = measured.iou_pytorch
    for backend in installed_backends():
        drop = measured.miou_pytorch - measured.miou_by_backend[backend]
        lost = [trained[name] - v for name, v in measured.iou_by_backend[backend].items()]
        assert 100 * drop <= 0.5 and 100 * max(lost) <= 2
    report = measured.int8
    assert report.budget == {"miou": 0.5, "worst": 2.0}
    assert len(report.kept) <= 0.2 * report.layers


def test_the_guilty_layer_is_among_those_kept(found: Path) -> None:
    """The classifier reads the torn channel; it is the last convolution of the graph."""
    log = msgspec.json.decode((found / "sensitivity.json").read_bytes(), type=Log)
    convolutions = [layer.name for layer in log.layers if "onv" in layer.name]
    assert log.chosen is not None and convolutions[-1] in log.chosen.kept
    ranked = sorted(log.layers, key=lambda layer: -layer.changed)
    assert convolutions[-1] in [layer.name for layer in ranked[:3]]


def test_the_report_tells_and_shows_what_was_measured(found: Path) -> None:
    log = msgspec.json.decode((found / "sensitivity.json").read_bytes(), type=Log)
    assert len(log.steps) >= 2 and log.steps[0].drop.miou > 5
    assert all(s.ms == pytest.approx(s.ratio * log.int8_ms) and s.ratio > 0 for s in log.steps)
    assert log.chosen in log.steps and BUDGET.holds(log.chosen.drop)
    assert "rank_correlation" in msgspec.json.decode((found / "sensitivity.json").read_bytes())
    assert cv2.imread(str(found / "sensitivity.png")).shape[1] > 600
    assert not list(found.parent.glob(".*.search")), "done: nothing to resume"


@pytest.fixture(scope="module")
def short(config: Export, found: Path) -> Export:
    """The same search among the last six layers only: the rest is kept."""
    log = msgspec.json.decode((found / "sensitivity.json").read_bytes(), type=Log)
    kept = tuple(layer.name for layer in log.layers[:-6])
    return replace(config, keep=kept, max_miou_drop=0.5, max_class_drop=2.0)


def test_a_search_that_was_stopped_goes_on(
    short: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked = replace(short, out=tmp_path)
    save, engine = Search._save, Search._engine

    def stop(search: Search) -> None:
        save(search)
        if len(search._log.layers) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Search, "_save", stop)
        publish(asked)
    assert [path.name for path in tmp_path.iterdir()] == [".torn-int8.search"]
    tried: list[str] = []

    def counted(
        search: Search, kept: tuple[str, ...], name: str = "trial", backends: Sequence[str] = ()
    ) -> object:
        tried.append(name)
        return engine(search, kept, name, backends)

    monkeypatch.setattr(Search, "_engine", counted)
    [bundle] = publish(asked)
    target, manifest = bundle.path, bundle.manifest
    assert "going on with" in capsys.readouterr().err
    log = msgspec.json.decode((target / "sensitivity.json").read_bytes(), type=Log)
    left, steps = len(log.layers) - 4, len(log.steps) - 1  # the first set was measured before
    assert len(log.layers) == 6
    assert (tried.count("layer"), tried.count("trial")) == (left, steps)
    assert set(short.keep) < set(manifest.measured.int8.kept)


def test_a_search_on_other_labels_or_with_other_libraries_begins_anew(
    short: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """As many frames of as many images under one name, of which some were labelled again."""
    save = Search._save

    def stop(search: Search) -> None:
        save(search)
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "_save", stop)
    assert short.data is not None
    data = shutil.copytree(short.data, tmp_path / "data")
    asked = replace(short, data=data, out=tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        publish(asked)
    label = next((data / "labels" / "val").iterdir())
    cv2.imwrite(str(label), np.zeros(SIZE, np.uint8))
    with pytest.raises(KeyboardInterrupt):
        publish(asked)
    monkeypatch.setattr("export.int8.search.version", lambda library: "another")
    with pytest.raises(KeyboardInterrupt):
        publish(asked)
    assert "going on with" not in capsys.readouterr().err


def test_a_budget_that_cannot_be_met_names_the_best_found(
    short: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a network that loses with all layers kept: PyTorch's answers are better ones here."""
    trained = exporter._trained

    def better(task: exporter.Task) -> ConfusionMatrix:
        confusion = trained(task)
        confusion.counts[...] = np.diag([100, 100, 100])  # never wrong
        return confusion

    monkeypatch.setattr(exporter, "_trained", better)
    asked = replace(short, max_miou_drop=0.0, out=tmp_path)
    with pytest.raises(GateError, match=r"the best found loses .* see .*sensitivity\.json") as e:
        publish(asked)
    assert e.value.exit_code == 4
    assert [path.name for path in tmp_path.iterdir()] == [".torn-int8.search"]
    assert (tmp_path / ".torn-int8.search" / "sensitivity.json").is_file()


def test_a_budget_needs_labels(
    config: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before the slow part."""
    assert config.data is not None
    asked = replace(config, data=config.data / "images" / "train", max_miou_drop=0.5, out=tmp_path)
    monkeypatch.setattr(exporter.Task, "graph", None)
    with pytest.raises(HedgeError, match="need labelled frames: --data PATH"):
        publish(asked)


def test_rank_correlation_is_spearmans() -> None:
    drops = [(0.1, 1.0), (0.2, 3.0), (0.3, 2.0), (0.4, 9.0)]
    log = Log("", "", "", layers=[Layer(str(i), *values) for i, values in enumerate(drops)])
    assert log.rank_correlation() == pytest.approx(0.8)
    assert Log("", "", "").rank_correlation() is None
    flat = [Layer(str(i), 0.0, drop) for i, (_, drop) in enumerate(drops)]
    assert Log("", "", "", layers=flat).rank_correlation() is None


def test_ties_share_a_rank_in_any_order() -> None:
    """Most layers change hardly a label: ranked as they come, they would say what they like."""
    tied = [Layer(str(i), 0.0 if i < 6 else 0.5, 0.0 if i < 6 else 2.0) for i in range(8)]
    for layers in (tied, tied[::-1], tied[::2] + tied[1::2]):
        assert Log("", "", "", layers=list(layers)).rank_correlation() == pytest.approx(1)


@pytest.mark.parametrize(
    ("drop", "inside"), [((0.5, 2.0), True), ((0.51, 0.0), False), ((0.0, 2.1), False)]
)
def test_both_sides_of_a_budget_bind(drop: tuple[float, float], inside: bool) -> None:
    assert BUDGET.holds(Drop(*drop, "road")) == inside
    assert Budget(None, None).holds(Drop(*drop, "road"))


@pytest.mark.parametrize(("reference", "answer"), [(0, 1), (1, 0), (1, 1), (0, 0)])
def test_a_pixel_of_a_class_that_no_label_holds_neither_costs_nor_hides_a_loss(
    reference: int, answer: int
) -> None:
    """PyTorch has the other two classes at 100 % IoU, the answer at 90."""
    classes = ClassSet(("road", "car", "train"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    before, after = ConfusionMatrix(classes), ConfusionMatrix(classes)
    before.counts[:] = [[100_000, 0, reference], [0, 100_000, 0], [0, 0, 0]]
    after.counts[:] = [[95_000, 5000, answer], [5000, 95_000, 0], [0, 0, 0]]
    found = 2 if reference == answer == 0 else 3
    drop = Drop.between(before, after)
    assert drop.miou == pytest.approx(2 * 100 * (1 - 95 / 105) / found, abs=0.01)


def test_layers_that_stay_in_floating_point_can_be_named(config: Export, tmp_path: Path) -> None:
    with pytest.raises(HedgeError, match="--keep conv_of_another: no such layer; the graph has"):
        publish(replace(config, keep=("conv_of_another",), out=tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_bar_tells_the_try_what_it_lost_and_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = [
        Step((), Drop(1.5, 6.0, "car"), 30.0, 1.0),
        Step(("a", "b", "c", "d"), Drop(0.1, 1.0, "car"), 33.0, 1.1),
    ]
    bar = SearchBar(BUDGET)
    [task] = bar.tasks
    bar.begin(1, 9, 0)
    assert task.description == "try 1 of at most 9, 0 in floating point"
    assert list(bar.frames(range(3), 3)) == [0, 1, 2]
    assert task.fields["left"].startswith("at most ") and task.fields["left"].endswith(" left")
    assert [*bar.layers("ab", 2)] == ["a", "b"] and task.description.startswith("layer 2 of 2")
    for number, step in enumerate(steps, 1):
        bar.tried(number, step)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("try 1: lost 1.50 of mIoU, 6.00 of car, over the budget; 30.0 ms;")
    assert "within the budget; 33.0 ms; took " in second
    assert second.endswith(" s; in floating point: 4: a, b, … 2 more")


@pytest.mark.parametrize("layers", [[Layer("a", 0.1, 1.0)], []])
def test_table_and_picture_name_layers_and_both_limits(
    layers: list[Layer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Step(("a",), Drop(0.1, 1.0, "car"), 33.0, 1.1)
    log = Log("", "engine", "2 frames", 30.0, layers, [step], step)
    cli.out.print(search_log.table(log, BUDGET, 3))
    said = capsys.readouterr().out
    assert "mIoU lost, at most 0.5" in said and "worst class, at most 2" in said and "1: a" in said
    assert ("nothing was searched" in said) == (not layers)
    search_log.plot(log, BUDGET, tmp_path / "x.png")
    assert cv2.imread(str(tmp_path / "x.png")).shape[1] == (1560 if layers else 910)
