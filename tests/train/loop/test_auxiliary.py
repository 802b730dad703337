"""The second head: it learns, and it is in nothing that leaves the training."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.train.loop.test_steps import ALONE, task_of
from tests.train.test_loop import Make, assert_same
from train.checkpoint import Checkpoint
from train.evaluation.scoring import load_model
from train.loop.trainer import Trainer
from train.models.deeplab import AUXILIARY
from train.release import released

FAST = {"variant": "vanilla", "ema": 0.9}


def test_a_second_head_answers_in_training_alone_and_teaches_the_backbone(
    tiny_config: Make, tmp_path: Path
) -> None:
    plain, task = (task_of(tiny_config(tmp_path, aux_weight=w, **FAST)) for w in (0, 0.4))
    own = {n: t for n, t in task.network.state_dict().items() if not n.startswith(AUXILIARY)}
    assert_same(plain.network.state_dict(), own)  # all else starts alike
    image, labels = torch.rand(2, 3, 48, 64), torch.zeros(2, 48, 64, dtype=torch.uint8)
    parts = task.losses(task.forward(task.network, image, labels), labels, labels)
    assert parts.keys() == {"cross-entropy", "jaccard", "auxiliary"}
    parts["auxiliary"].backward()
    network = task.network.eval()
    assert any(p.grad is not None for p in network.backbone.parameters())
    assert all(p.grad is None for p in network.classifier.parameters())
    assert network(image).auxiliary is None and plain.network(image).auxiliary is None


def test_a_second_head_is_kept_to_resume_and_in_nothing_else(
    tiny_config: Make, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path, aux_weight=0.4, **FAST)
    trainer = Trainer(config, task_of(config), ALONE)
    state = trainer.network.state_dict()
    head = [name for name in state if name.startswith(AUXILIARY)]
    for name in head:
        state[name].fill_(3)
    trainer._save(0.5, improved=True)
    best, last = (Checkpoint.load(config.run / name) for name in ("best.pt", "last.pt"))
    for saved in (best, last, released(best, "CC0")):
        assert saved.weights.keys() == state.keys() - set(head) and head
    plain = task_of(tiny_config(tmp_path, **FAST)).network  # of the same seed
    deployed = load_model(best)  # what is exported: the same modules, the same weights
    assert repr(deployed) == repr(plain.eval())
    assert_same(deployed.state_dict(), plain.state_dict())
    again = Trainer(config, task_of(config), ALONE)
    again.restore(config.run / "last.pt")
    assert_same(again.network.state_dict(), state)
