"""Edges from another network's stages."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from train.models.hed import SideOutputs


def test_side_outputs_are_resized_scores_and_their_fusion() -> None:
    torch.manual_seed(0)
    sides = SideOutputs((8, 12, 20))
    for parameter in sides.parameters():
        torch.nn.init.normal_(parameter)
    stages = [torch.rand(2, c, h, w) for c, h, w in ((8, 33, 48), (12, 17, 24), (20, 5, 6))]
    maps = sides(*stages)
    scores = [score(stage) for score, stage in zip(sides.scores, stages, strict=True)]
    each = torch.cat([F.interpolate(x, (33, 48), mode="bilinear") for x in scores], dim=1)
    torch.testing.assert_close(maps, torch.cat([each, sides.combine(each)], dim=1))
    assert maps.shape[1] == sides.maps
