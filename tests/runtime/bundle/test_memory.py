"""A small file that would fill the memory is refused before it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle import memory
from runtime.bundle.manifest import Manifest
from runtime.errors import HedgeError
from tests.equipment.bundles import resign

ROOT = Path(__file__).parents[3]
LOAD = """
import sys
from pathlib import Path
from runtime.backends.registry import load_engine
from runtime.errors import HedgeError
try:
    load_engine(Path(sys.argv[1]), sys.argv[2])
except HedgeError as error:
    print(error)
# Not getrusage: a process begins with the peak of the one that started it.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) >> 10)
"""


def plant(bundle: Path, kind: str) -> None:
    """Let the graph hold 6 GiB, as a constant or of each frame; its labels stay what they are."""
    path, floats = bundle / "model.onnx", 3 << 29
    model = onnx.load(path)
    shape = [floats] if kind == "constant" else [floats // (24 * 32 * 3), 24, 32, 3]
    nodes = model.graph.node
    nodes[0].output[0] = "dark"
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape), "shape"))
    big = (
        helper.make_node("ConstantOfShape", ["shape"], ["big"])
        if kind == "constant"
        else helper.make_node("Expand", ["dark", "shape"], ["big"])
    )
    nodes.insert(1, big)
    nodes.insert(2, helper.make_node("ReduceMax", ["big"], ["top"], keepdims=0))
    nodes.insert(3, helper.make_node("Add", ["dark", "top"], ["values"]))
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    path.write_bytes(model.SerializeToString())
    resign(bundle)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds what a process takes")
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ["constant", "frames"])
def test_six_gib_from_a_few_nodes_are_refused(kind: str, backend: str, bundle: Path) -> None:
    assert (bundle / "model.onnx").stat().st_size < 1000
    plant(bundle, kind)
    command = [sys.executable, "-c", LOAD, str(bundle), backend]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    message, peak_mib = done.stdout.splitlines()
    assert f"{bundle}: its graph takes more than" in message and memory.VARIABLE in message
    assert int(peak_mib) < 1500


def test_the_bound_goes_by_weights_and_frames_or_as_told(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest.load(bundle)
    assert 1 << 30 < memory.allowance(bundle, manifest) < 8 << 30
    monkeypatch.setenv(memory.VARIABLE, "2.5")
    assert memory.allowance(bundle, manifest) == 5 << 29
    for nonsense in ("much", "-1", "0", "nan", "1e9", "9" * 400):
        monkeypatch.setenv(memory.VARIABLE, nonsense)
        with pytest.raises(HedgeError, match=memory.VARIABLE):
            memory.allowance(bundle, manifest)
