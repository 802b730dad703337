"""Engines of checkouts in turn: each in a process that runs the code it is named with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.studies.checkouts import Checkouts, main
from runtime.errors import HedgeError
from tests.equipment.bundles import make_bundle

ROOT = Path(__file__).parents[2]


def test_each_runs_the_code_of_its_checkout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that sleeps before each answer, and one that does not."""
    bundle, slow = make_bundle(tmp_path / "bundle"), tmp_path / "slow"
    (slow / "runtime").mkdir(parents=True)
    (slow / "runtime" / "__init__.py").touch()
    (slow / "runtime" / "segment.py").write_text(
        "import time\n"
        "class Segmenter:\n"
        "    class manifest:\n"
        "        class input: shape = (1, 2, 2, 3)\n"
        "    def __init__(self, bundle, backend, threads):\n"
        "        assert backend == 'onnxruntime'\n"
        "        print('a library speaks')\n"
        "    def __call__(self, frame): time.sleep(0.05)\n"
    )
    main(Checkouts(2, 2, (f"slow={slow}={bundle}=onnxruntime", f"now={ROOT}={bundle}"), engines=2))
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"slow +\d+\.\d ms, slow takes 1\.000 times that .*", first)
    found = re.fullmatch(r"now +\d+\.\d ms, slow takes (.*) times that \((.*) to (.*)\)", second)
    assert found and 2 < float(found[2]) <= float(found[1]) <= float(found[3])


def test_a_checkout_without_an_engine_is_named(tmp_path: Path) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "__init__.py").write_text("raise ImportError('broken')")
    with pytest.raises(HedgeError, match=f"{tmp_path}: no engine for .*bundle"):
        main(Checkouts(1, 1, (f"now={tmp_path}={make_bundle(tmp_path / 'bundle')}",)))


@pytest.mark.parametrize("case", ["now", "now=.", "now=.=a=b=c", "now=nowhere=bundle"])
def test_a_case_that_names_nothing_is_told(case: str) -> None:
    with pytest.raises(HedgeError, match=r"write NAME=CHECKOUT|nowhere: no such checkout"):
        main(Checkouts(1, 1, (case,)))
