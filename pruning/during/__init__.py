"""What happens to the masks while a network trains: every public function here is a choice.

Hold them (`hard`), let them go (`none`), raise the sparsity by a schedule (`gradual`), by a
threshold (`rnn`), let what was pruned come back (`soft`, `splicing`), train the thresholds too
(`trainable_threshold`), learn how much noise each weight bears (`variational_dropout`), prune and
regrow (`rigl`, `set`), pull the weights to a pruned copy of them (`learning_compression`), or press
BatchNorm scales to zero (`slimming`). One protocol for all:

    method = resolve("during", {"name": "gradual", "end": 2000})
    training = Training(model, optimizer, masks, sparsity=0.9, steps=3000, steps_per_epoch=500)
    with method(training) as course:
        fit(model, batches, optimizer, loss, steps=3000, hooks=[course.hook, *others])
    masks = course.masks

* A method is `(training: Training, *, settings...) -> context manager of Course`; its keyword-only
  parameters are its settings, so a choice is `{"name": ..., **settings}` of plain values.
* `course.hook(step, loss)` is the first hook of `fit`, called after every step with the steps done:
  hooks behind it (validation, checkpoints) see the network as it is meant to be seen.
* `course.masks` are the masks at any time, and after the `with` the final ones: every weight that
  they prune is then zero, or `PruningError` was raised. Inside it that holds too under every method
  but `none`, `soft` and, before its `end`, `learning_compression`, whose pruned weights train and
  are seen.
* `training.masks` name the layers up for pruning and say what is pruned at the start. `hard`,
  `rigl`, `set` and `slimming` hold the sparsity of these; `gradual`, `rnn`, `soft`, `splicing`,
  `variational_dropout`, `trainable_threshold` and `learning_compression` choose masks themselves,
  on the way to `training.sparsity` where no threshold says what goes, so they are given the masks
  of *before* this pruning: all True, or those of the round before. A method says by
  `@traits("given", ...)` what the pipeline may rely on (`pruning.traits`); without, it is taken
  for one that chooses masks itself.
* Resuming: save `course.state()` with the checkpoint and give it back as `training.state` with the
  step as `training.start`. All randomness is drawn by (seed, purpose, step), so the run goes on as
  if it had not stopped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.errors import PruningError
from pruning.pruner import prune
from pruning.randomness import generator
from pruning.training import Hook
from pruning.types import Masks, Params

_MASK = "mask/"


@dataclass(frozen=True)
class Training:
    """One training run as its method sees it.

    `masks` are those at the start and were chosen for the sparsity `initial`; `sparsity` is the
    target at the end. The run goes from step `start` to step `steps`. `choose(model, sparsity,
    previous=masks, allow_regrowth=False)` makes masks: `prune` with criterion, granularity and
    allocation bound. `trained` are the weights of a trained dense network, for a method that reads
    thresholds off one where `model` itself is fresh. `state` is what `Course.state` returned.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    masks: Masks
    sparsity: float
    steps: int
    steps_per_epoch: int
    choose: Callable[..., Masks] = prune
    initial: float = 0.0
    start: int = 0
    seed: int = 0
    trained: Params | None = None
    state: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def resumed(self) -> bool:
        """Whether this goes on from a checkpoint."""
        return bool(self.state)

    def current(self) -> Masks:
        """Return the masks to go on from: the checkpoint's, else those given."""
        return self.saved(_MASK) or dict(self.masks)

    def saved(self, prefix: str) -> dict[str, Tensor]:
        """Return the checkpoint's tensors under `prefix`, by the rest of their names."""
        found = self.state.items()
        return {key.removeprefix(prefix): v for key, v in found if key.startswith(prefix)}

    def weights(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the masks name; refuse masks that name none."""
        masks = self.current()
        if not masks:
            raise PruningError(
                f"the masks name no layer of {type(self.model).__name__} to prune while it trains; "
                f"give masks.dense(prunable(model))"
            )
        mask_tools.check(masks, self.model)
        params = dict(self.model.named_parameters(remove_duplicate=False))
        return {name: params[name] for name in masks}

    def own_weights(self) -> dict[str, nn.Parameter]:
        """Return `weights()`; refuse one that trains, but by another optimizer."""
        found = self.weights()
        own = {id(weight) for group in self.optimizer.param_groups for weight in group["params"]}
        for name, weight in found.items():
            if weight.requires_grad and id(weight) not in own:
                raise PruningError(
                    f"the optimizer does not train layer {name!r}, which the masks name; give one "
                    f"that trains all of them, or leave the layer out of the masks"
                )
        return found

    def chosen_anew(self, sparsity: float, **changes: Any) -> Masks:
        """Return masks by `choose` in which all compete; refuse those of other layers."""
        found = self.choose(self.model, sparsity, allow_regrowth=True, **changes)
        if odd := sorted({*found} ^ {*self.masks}):
            raise PruningError(
                f"the masks and choose are to name the same layers, and only one of them names "
                f"{', '.join(odd)}; give both the same only and skip"
            )
        return dict(found)

    def generator(self, purpose: str, step: int) -> torch.Generator:
        """Return the randomness of one step."""
        return generator(self.seed, purpose, step)


@dataclass
class Course:
    """A training run under a method: its masks now, the hook that moves them, what to save."""

    masks: Masks
    hook: Hook = lambda step, loss: None  # noqa: ARG005
    extra: Callable[[], Mapping[str, Tensor]] = dict

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that resuming needs beside weights, optimizer and step."""
        masks = {f"{_MASK}{name}": mask for name, mask in self.masks.items()}
        # Never empty: a run without masks is resumed too, and must not begin again.
        started = {"started": torch.ones((), dtype=torch.bool)}
        found = started | masks | dict(self.extra())
        return {name: value.clone() for name, value in found.items()}
