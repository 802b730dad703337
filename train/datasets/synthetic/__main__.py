"""``python -m train.datasets.synthetic``: generate, and say where it is."""

from __future__ import annotations

from runtime import cli
from train.datasets.synthetic.generate import SyntheticConfig, generate


def main(config: SyntheticConfig) -> None:
    """The command."""
    generate(config)
    cli.out.print(
        f"{config.out}: {config.train} train and {config.val} val images",
        markup=False,
        soft_wrap=True,
    )
    if config.video:
        cli.out.print(f"{config.video}: {config.video_frames} frames", markup=False, soft_wrap=True)


if __name__ == "__main__":
    cli.run(SyntheticConfig, main, "python -m train.datasets.synthetic")
