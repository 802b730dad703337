"""The Python API on a real graph, in every engine library that is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from runtime import Segmenter, stream
from runtime.backends.registry import installed_backends, load_engine
from runtime.bundle.classes import ClassSet
from runtime.errors import HedgeError
from runtime.sources.base import Frame
from tests.equipment.bundles import make_bundle

Make = Callable[..., Path]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("backend", installed_backends())
def test_every_engine_answers_the_brightest_channel(backend: str, shared_bundle: Path) -> None:
    image = noise(24, 32)
    with Segmenter(shared_bundle, backend, threads=1) as segmenter:
        labels = segmenter(image)
    assert labels.dtype == np.uint8
    assert (labels == image.argmax(2)).all()
    assert segmenter.backend == backend


@pytest.mark.parametrize("backend", installed_backends())
def test_an_answer_is_not_overwritten_by_the_next(backend: str, shared_bundle: Path) -> None:
    with Segmenter(shared_bundle, backend, threads=1) as segmenter:
        first = segmenter(noise(24, 32, seed=1))
        kept = first.copy()
        segmenter(noise(24, 32, seed=2))
    assert (first == kept).all()


@pytest.mark.parametrize("size", [(1, 1), (23, 31), (48, 64)])
def test_labels_have_the_size_of_the_image(size: tuple[int, int], shared_bundle: Path) -> None:
    image = np.full((*size, 3), (10, 200, 10), np.uint8)
    with Segmenter(shared_bundle, "onnxruntime") as segmenter:
        labels = segmenter(image)
    assert labels.shape == size
    assert (labels == 1).all()


@pytest.mark.parametrize("size", [(17, 23), (29, 41), (45, 60)])
def test_labels_lie_where_the_image_does(size: tuple[int, int], shared_bundle: Path) -> None:
    """Not half a pixel to the right and down, in frames that are smaller or larger."""
    beside = []
    with Segmenter(shared_bundle, "onnxruntime") as segmenter:
        for start in range(4, min(size) - 4):
            image = np.full((*size, 3), (200, 0, 0), np.uint8)
            image[start:, start:] = (0, 200, 0)
            wrong = segmenter(image).astype(int) - image.argmax(2)
            beside += [wrong[-1].sum(), wrong[:, -1].sum()]
    assert abs(np.mean(beside)) < 0.2


@pytest.mark.parametrize("backend", installed_backends())
def test_a_class_that_the_manifest_does_not_name_is_refused(backend: str, tmp_path: Path) -> None:
    two = ClassSet(("blue", "green"), ((0, 0, 255), (0, 255, 0)))
    with Segmenter(make_bundle(tmp_path / "bundle", class_set=two), backend) as segmenter:
        image = np.zeros((24, 32, 3), np.uint8)
        assert not segmenter(image).any()
        image[7, 9, 2] = 1
        for ask in (segmenter, lambda image: segmenter.infer(image[None])):
            with pytest.raises(HedgeError, match="answers class 2, but its manifest names 2"):
                ask(image)
        with pytest.raises(HedgeError, match="answers class 2"):
            segmenter.predict(Frame(0, 0.0, image, "a"))


def test_paths_and_lists_are_answered_as_their_images(make_bundle: Make, tmp_path: Path) -> None:
    images = [noise(24, 32, 0), noise(30, 20, 1), noise(24, 32, 2)]
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image[..., ::-1].copy()).save(path)
    with Segmenter(make_bundle(tmp_path / "two", batch=2), "onnxruntime") as segmenter:
        alone = [segmenter(image) for image in images]
        assert (alone[0] == images[0].argmax(2)).all() and alone[1].shape == (30, 20)
        for asked in (paths, [str(paths[0]), *images[1:]], tuple(images)):
            answers = segmenter(asked)
            assert isinstance(answers, list)
            assert all((a == b).all() for a, b in zip(alone, answers, strict=True))
        assert (segmenter(str(paths[1])) == alone[1]).all()
        assert segmenter([]) == []
        with pytest.raises(HedgeError, match=r"none\.png"):
            segmenter(tmp_path / "none.png")


def test_labels_are_drawn_in_the_colors_of_their_classes(
    shared_bundle: Path, classes: ClassSet, tmp_path: Path
) -> None:
    image = np.full((24, 32, 3), (10, 200, 10), np.uint8)
    Image.fromarray(image[..., ::-1].copy()).save(tmp_path / "a.png")
    with Segmenter(shared_bundle, "onnxruntime") as segmenter:
        assert segmenter.classes == classes and segmenter.classes.names[1] == "green"
        labels = segmenter(image)
        drawn = segmenter.draw(image, labels)
        assert drawn.dtype == np.uint8 and drawn.shape == image.shape
        assert np.abs(drawn.astype(int) - (6, 219, 6)).max() <= 1
        full = segmenter.draw(tmp_path / "a.png", labels, opacity=1.0)
        assert (full == (0, 255, 0)).all() and (drawn != full).any(), "each an array of its own"
        assert (segmenter.draw(image, labels, only=["red"]) == image).all()
        with pytest.raises(HedgeError, match="no class of this model; it has blue, green, red"):
            segmenter.draw(image, labels, only=["road"])
        assert (segmenter.draw(image, labels, only="red") == image).all(), "one name is a list"
        for wrong in ({"style": "lines"}, {"opacity": 2.0}, {"opacity": float("nan")}):
            with pytest.raises(HedgeError, match=next(iter(wrong))):
                segmenter.draw(image, labels, **wrong)
        with pytest.raises(ValueError, match="labels"):
            segmenter.draw(image[:12], labels)
        with pytest.raises(ValueError, match="labels int64"):
            segmenter.draw(image, labels.astype(np.int64))
        for other in (image / 255, image[..., 0], image[..., [0, 1, 2, 2]]):
            with pytest.raises(ValueError, match="uint8 BGR"):
                segmenter.draw(other, labels)


def test_a_segmenter_and_its_predictions_print_in_a_line(shared_bundle: Path) -> None:
    with Segmenter(shared_bundle, "onnxruntime") as segmenter:
        assert repr(segmenter) == "Segmenter('brightest', onnxruntime fp32, 3 classes, 24×32)"
        told = str(segmenter.predict(Frame(3, 1.25, noise(24, 32), "000003")))
    assert re.fullmatch(r"Prediction\('000003' at 1\.25 s, 24×32, 3 classes, \d+\.\d ms\)", told)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_what_is_no_bgr_image_is_refused(image: np.ndarray, shared_bundle: Path) -> None:
    with (
        Segmenter(shared_bundle, "onnxruntime") as segmenter,
        pytest.raises(ValueError, match="uint8 BGR"),
    ):
        segmenter(image)


@pytest.mark.parametrize("image", [None, [None], b"a.png", Image.new("RGB", (4, 4)), 0])
def test_what_is_no_image_at_all_is_told_by_its_type(image: Any, shared_bundle: Path) -> None:
    wrong = type(image[0] if isinstance(image, list) else image).__name__
    with Segmenter(shared_bundle, "onnxruntime") as segmenter:
        with pytest.raises(TypeError, match=rf"path of an image.* got {wrong}"):
            segmenter(image)
        with pytest.raises(TypeError, match="path of an image"):
            segmenter.draw(image, np.zeros((4, 4), np.uint8))


def test_a_graph_with_a_batch_takes_one_and_more_frames(make_bundle: Make, tmp_path: Path) -> None:
    images = [noise(24, 32, seed) for seed in range(3)]
    frames = [Frame(i, 0.0, image, str(i)) for i, image in enumerate(images)]
    with Segmenter(make_bundle(tmp_path / "four", batch=4), "onnxruntime") as segmenter:
        assert segmenter.batch == 4
        assert (segmenter(images[0]) == images[0].argmax(2)).all()
        for image, prediction in zip(images, segmenter.predict_batch(frames), strict=True):
            assert (prediction.labels == image.argmax(2)).all()
            assert prediction.infer_ms > 0
        with pytest.raises(ValueError, match="1 to 4 images"):
            segmenter.predict_batch(frames * 2)


def test_an_unknown_backend_lists_the_known(shared_bundle: Path) -> None:
    with pytest.raises(HedgeError, match="openvino, onnxruntime"):
        load_engine(shared_bundle, "tensorfly")


@pytest.mark.parametrize("option", [{"threads": -1}, {"in_flight": 0}, {"tiles": (0, 1)}])
def test_a_number_out_of_its_range_is_one_error(
    option: dict[str, Any], shared_bundle: Path
) -> None:
    with pytest.raises(HedgeError, match=rf"{next(iter(option))}.* from 1"):
        Segmenter(shared_bundle, **option)


@pytest.mark.parametrize("backend", installed_backends())
def test_a_closed_segmenter_says_so(backend: str, shared_bundle: Path) -> None:
    with Segmenter(shared_bundle, backend) as segmenter:
        pass
    with pytest.raises(ValueError, match="closed; load the bundle again"):
        segmenter(noise(24, 32))


@pytest.mark.parametrize("backend", installed_backends())
def test_closing_gives_other_threads_what_they_asked_for(backend: str, shared_bundle: Path) -> None:
    with Segmenter(shared_bundle, backend) as segmenter:
        submitted = segmenter.submit([Frame(0, 0.0, noise(24, 32), "")])
    [prediction] = segmenter.results(submitted)
    assert prediction.labels.shape == (24, 32)


@pytest.mark.parametrize("backend", installed_backends())
def test_a_graph_the_library_refuses_is_one_error(
    backend: str, bundle: Path, resign: Callable[[Path], None]
) -> None:
    model = onnx.load(bundle / "model.onnx")
    model.graph.node[1].op_type = "Unheard"
    onnx.save(model, bundle / "model.onnx")
    resign(bundle)
    with pytest.raises(HedgeError, match=r"model\.onnx: .* refuses it") as caught:
        load_engine(bundle, backend)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_threads_may_share_a_segmenter(backend: str, shared_bundle: Path) -> None:
    images = np.zeros((3, 24, 32, 3), np.uint8)
    for channel in range(3):
        images[channel, ..., channel] = 255
    with Segmenter(shared_bundle, backend, threads=1) as segmenter:

        def wrong(number: int) -> int:
            channel = number % 3
            return int((segmenter(images[channel]) != channel).any())

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(wrong, range(480))) == 0


@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize("backend", installed_backends())
def test_a_call_between_two_streams_takes_nobodys_answers(
    backend: str, in_flight: int, shared_bundle: Path
) -> None:
    images = [np.full((24, 32, 3), np.eye(3)[channel] * 255, np.uint8) for channel in range(3)]
    with Segmenter(shared_bundle, backend, threads=1, in_flight=in_flight) as segmenter:
        running = [segmenter.submit([Frame(0, 0.0, images[0], "")]) for _ in range(3)]
        assert (segmenter(images[1]) == 1).all()
        assert (segmenter.infer(images[2][None]) == 2).all()
        assert all((segmenter.results(each)[0].labels == 0).all() for each in running)

        frames = [Frame(index, index / 10, images[index % 3], "") for index in range(60)]
        for one, other in zip(stream(frames, segmenter), stream(frames, segmenter), strict=True):
            channel = one.frame.index % 3
            assert (one.labels == channel).all()
            assert (other.labels == channel).all()
            assert (segmenter(images[channel - 1]) == (channel - 1) % 3).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system starts processes afresh")
def test_a_forked_child_is_told_to_load_its_own(shared_bundle: Path) -> None:
    code = f"""
import os, sys, threading
import numpy as np
from runtime import Segmenter, stream
segmenter = Segmenter({str(shared_bundle)!r}, "openvino")
in_use = threading.Thread(target=segmenter._turn.acquire)  # by a thread that the child lacks
in_use.start()
in_use.join()
child = os.fork()
if child == 0:
    try:
        with segmenter:
            segmenter(np.zeros((24, 32, 3), np.uint8))
    except ValueError as error:
        print(error, flush=True)
        os._exit(7)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said, status = done.stdout.splitlines()
    assert "forked" in said and "load the Segmenter" in said and status == "7"


@pytest.mark.parametrize("backend", installed_backends())
def test_no_library_reports_its_use(backend: str, shared_bundle: Path, tmp_path: Path) -> None:
    """OpenVINO does, from a process that it forks, as soon as it has read a model; ONNX Runtime
    keeps an id of the machine and what is to be sent in the user's cache."""
    code = f"""
import sys
started, kinds = [], ("os.fork", "subprocess.Popen")
sys.addaudithook(lambda event, _: event in kinds and started.append(event))
import numpy as np
from runtime import Segmenter, stream
with Segmenter({str(shared_bundle)!r}, {backend!r}) as segmenter:
    segmenter(np.zeros((24, 32, 3), np.uint8))
print([*started, *(name for name in sys.modules if name.startswith("openvino_telemetry."))])
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    # Without what keeps ONNX Runtime silent, in this process as well: it is the child's to set.
    environment = {**os.environ, "HOME": str(tmp_path)}
    for name in ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout.splitlines() == ["[]"], done.stderr
    assert not list(tmp_path.rglob("*onnxruntime*"))
