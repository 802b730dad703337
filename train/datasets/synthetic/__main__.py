"""``python -m train.datasets.synthetic``: generate, and say where it is."""

from __future__ import annotations

from runtime import cli
from train.datasets.synthetic.generate import SyntheticConfig, generate


def main(config: SyntheticConfig) -> None:
    """The command."""
    generate(config)
    cli.say(f"{config.out}: {config.train} train and {config.val} val images")
    if config.video:
        cli.say(f"{config.video}: {config.video_frames} frames")


if __name__ == "__main__":
    cli.run(SyntheticConfig, main, "python -m train.datasets.synthetic")
