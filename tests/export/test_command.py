"""What the command takes a path and its options for."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.__main__ import main
from export.config import Export
from runtime.errors import HedgeError


def test_what_is_asked_of_a_bundle_is_nothing_that_only_an_export_does(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the newest bundle, of whatever precision, is handed over as the INT8 asked for."""
    monkeypatch.chdir(tmp_path)
    for config, told in (
        (Export(bundle, int8=True, triton=Path("a")), "tiny: a bundle, .* --int8 is for a run"),
        (Export(bundle, frame_size=(48, 64), triton=Path("a")), "--frame-size is for a run"),
        (Export(bundle), "tiny: a bundle, which is exported already: give a run"),
        (Export(int8=True, out=bundle.parent, triton=Path("a")), r"runs: no best\.pt"),
    ):
        with pytest.raises(HedgeError, match=told):
            main(config)
        assert not Path("a").exists()
    main(Export(out=bundle.parent, triton=Path("a"), force=True))
    assert (tmp_path / "a" / "brightest-openvino").is_dir()


def test_one_folder_for_deepstream_takes_one_precision() -> None:
    """The second replaced the first, or was refused after its whole export."""
    Export(best=True, deepstream=Path("a"))
    with pytest.raises(HedgeError, match="a folder for one precision"):
        Export(fp16=True, int8=True, deepstream=Path("a"))
