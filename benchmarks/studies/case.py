"""A model to time, as the command line names it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import get_args

from runtime.errors import HedgeError
from train.config import (
    DECODERS,
    DEFAULT_DECODER,
    DEFAULT_EDGES,
    EDGES,
    TIMM,
    VARIANTS,
    BackboneName,
    DecoderName,
    EdgeName,
    VariantName,
)


@dataclass(frozen=True)
class Case:
    """A model at an input size (H, W).

    hed: where the edges of dlse_hed come from; decoder: a row of DECODERS.
    """

    backbone: str
    variant: VariantName
    size: tuple[int, int]
    hed: EdgeName = DEFAULT_EDGES
    decoder: DecoderName = DEFAULT_DECODER

    @classmethod
    def parse(cls, text: str) -> Case:
        """From the command line's form; HedgeError says what the form is."""
        found = re.fullmatch(r"([\w/.]+):(?:(\w+)((?:-\w+)*):)?(\d+)x(\d+)", text)
        if not found:
            raise HedgeError(f"--cases {text}: write BACKBONE:HEIGHTxWIDTH, as resnet50:256x512")
        backbone, variant, parts, height, width = found.groups()
        variant = variant or "dlse_hed"
        designs = [word for word in (parts or "").split("-") if word]
        for word, known in (
            (backbone, get_args(BackboneName)),
            (variant, tuple(VARIANTS)),
            *((word, (*EDGES, *DECODERS)) for word in designs),
        ):
            if word not in known and not word.startswith(TIMM):
                raise HedgeError(f"--cases {text}: {word} is none of {', '.join(known)}")
        if min(int(height), int(width)) < 32:
            raise HedgeError(f"--cases {text}: at least 32x32")
        hed = next((word for word in designs if word in EDGES), DEFAULT_EDGES)
        decoder = next((word for word in designs if word in DECODERS), DEFAULT_DECODER)
        size = int(height), int(width)
        return cls(backbone, variant, size, hed, decoder)  # type: ignore[arg-type]

    def __str__(self) -> str:
        backbone = self.backbone.replace("/", "-")
        edges = f"-{self.hed}" if self.hed != DEFAULT_EDGES and VARIANTS[self.variant].hed else ""
        decoder = f"-{self.decoder}" if self.decoder != DEFAULT_DECODER else ""
        return f"{backbone}-{self.variant}{edges}{decoder}-{self.size[0]}x{self.size[1]}"
