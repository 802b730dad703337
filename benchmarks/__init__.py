"""Evidence: latency beside mIoU, measured in one run."""

import sys

_COMMANDS = {f"benchmarks{end}" for end in ("", ".__main__", ".ablation", ".gpu", ".pipeline")}

# While ``python -m`` looks for its module nothing can catch what that raises.
if sys.argv[:1] == ["-m"] and _COMMANDS & {*sys.orig_argv}:
    from runtime.cli import require

    require(("jinja2", "psutil", "pynvml"), "benchmarks")  # that every report needs
