"""python -m runtime.fleet: segment many videos on many machines."""

from __future__ import annotations

from runtime import cli
from runtime.fleet.config import FleetConfig

LIBRARIES = ("fsspec", "jinja2", "pyarrow", "ray")


def main(config: FleetConfig) -> int:
    """Run the command; its exit code, or a HedgeError with one."""
    cli.require(LIBRARIES, "fleet")
    from runtime.fleet import run  # its libraries are an extra, which --help needs none of

    return run.main(config)


if __name__ == "__main__":
    cli.run(FleetConfig, main, "python -m runtime.fleet")
