"""Models that OpenVINO compiled, kept for the next start: to read one takes a sixth of the time.

They lie in the user's own cache and never in a bundle, which others may have made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import openvino

from runtime import files, machine

KEPT = 16  # models; a MobileNet's is 5 to 20 MB


def compiled(
    core: openvino.Core,
    device: str,
    config: Mapping[str, object],
    source: str,
    compile_model: Callable[[], openvino.CompiledModel],
) -> openvino.CompiledModel:
    """The model that ``compile_model`` makes, read from the cache if it was made here before.

    source: names the graph by its content. Another library, processor, device or setting is
    another model.
    """
    cpu = (machine.cpu_name(), *machine.cpu_features(), machine.cores())
    made = (source, openvino.get_version(), device, sorted(map(str, config.items())), cpu)
    path = folder() / f"{files.sha256_of(repr(made).encode())}.blob"
    with suppress(OSError, RuntimeError):  # unreadable, or refused: it is made anew
        if data := files.read_sealed(path):
            model = core.import_model(BytesIO(data), device, dict(config))
            path.touch()
            return model
    model = compile_model()
    with suppress(OSError, RuntimeError):  # a full disk, or a device that exports nothing
        files.save_sealed(path, bytes(model.export_model().getbuffer()))
        for old in sorted(folder().glob("*.blob"), key=lambda p: -p.stat().st_mtime)[KEPT:]:
            old.unlink(missing_ok=True)
    return model


def folder() -> Path:
    """Where the models lie: ``$XDG_CACHE_HOME/hedge``, or ``~/.cache/hedge``."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "hedge" / "openvino"
