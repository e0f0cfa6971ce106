from typing import Any

import torch

from pruning import masks as mask_tools
from pruning import prune


def test_hard_holds_the_masks_at_every_step(runs: Any) -> None:
    model = runs.network()
    masks = prune(model, 0.7)
    training = runs.training(model, 0.7, masks=masks)
    course = runs.run(training, "hard", lambda *_: mask_tools.verify(model, masks))
    assert all(torch.equal(course.masks[name], mask) for name, mask in masks.items())


def test_none_trains_every_weight_and_prunes_nothing(runs: Any) -> None:
    model = runs.network()
    masks = prune(model, 0.7)

    def look(step: int, course: Any) -> None:  # noqa: ARG001
        if step == 0:
            mask_tools.verify(model, masks)

    course = runs.run(runs.training(model, 0.7, masks=masks), "none", look)
    assert mask_tools.sparsity(course.masks) == 0
    params = dict(model.named_parameters())
    assert all(params[name][~mask].count_nonzero() > 0 for name, mask in masks.items())
