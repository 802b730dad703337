"""Evidence: latency beside mIoU, measured in one run."""

import sys

# What a module needs besides the core, and the extra that brings it: the first row that it is in.
_NEEDED: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("cells", "readme", "schema", "studies.checkouts"), (), ""),  # or started by one of the others
    (("studies.fleet",), ("fsspec", "jinja2", "pyarrow", "ray"), "fleet"),
    (("studies.untrained",), ("torch", "torchvision", "onnx", "onnxscript"), "benchmarks"),
    (("host.ceiling",), ("openvino",), "benchmarks"),
    (("",), ("jinja2", "psutil", "pynvml"), "benchmarks"),  # that every report needs
)

# While ``python -m`` looks for its module nothing can catch what that raises.
_asked = [word for word in sys.orig_argv if f"{word}.".startswith("benchmarks.")]
if sys.argv[:1] == ["-m"] and _asked:
    from runtime.cli import require

    _module = _asked[0].removeprefix("benchmarks").removeprefix(".")
    require(*next(row[1:] for row in _NEEDED if _module.startswith(row[0])))
