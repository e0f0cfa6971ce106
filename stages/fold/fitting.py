"""Train one network of one fold inside a stage: history, snapshots, best epoch, resuming."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pruning import during
from pruning import masks as mask_tools
from pruning.choices import Choice, resolve
from pruning.errors import PruningError
from pruning.evidence import cross_entropy
from pruning.pruner import prune
from pruning.rewind import Snapshot, restore
from pruning.training import Diverged, evaluate, fit
from pruning.types import Masks, Params
from stages.engine import parallel
from stages.engine.workers import Report
from stages.fold.journal import Journal, Keeper
from stages.fold.samples import Samples
from stages.params import Training

OPTIMIZERS = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "NAdam",
    "radam": "RAdam",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
}


def optimizer_for(model: nn.Module, recipe: Training) -> torch.optim.Optimizer:
    """Return the optimizer that the recipe names, with its settings."""
    settings = dict(recipe.optimizer.model_extra or {})
    kind = getattr(torch.optim, OPTIMIZERS[recipe.optimizer.name])
    try:
        optimizer: torch.optim.Optimizer = kind(
            model.parameters(), lr=recipe.learning_rate.base, **settings
        )
    except (TypeError, ValueError) as error:
        raise PruningError(f"optimizer {recipe.optimizer.name!r}, {settings}: {error}") from None
    return optimizer


def learning_rate_of(recipe: Training, steps_per_epoch: int) -> Callable[[int], float]:
    """Return the learning rate by step: base times the schedule's factor, after the warm-up."""
    rate = recipe.learning_rate
    factor = resolve("learning rate", {"name": rate.name, **rate.settings})

    def at(step: int) -> float:
        epoch = step / steps_per_epoch
        warm = min(1.0, (step + 1) / (rate.warmup * steps_per_epoch)) if rate.warmup else 1.0
        return float(rate.base * warm * factor(epoch, recipe.epochs))

    return at


def train(
    model: nn.Module,
    samples: Samples,
    recipe: Training,
    *,
    resume: Path,
    report: Report,
    checkpoint_minutes: float,
    start: int = 0,
    steps: int | None = None,
    snapshot: Snapshot | None = None,
    keep_at: Mapping[str, int] | None = None,
    history_in: Path | None = None,
    rate: Callable[[int], float] | None = None,
    masks: Masks | None = None,
    method: Choice = "none",
    choose: Callable[..., Masks] = prune,
    sparsity: float = 0.0,
    trained: Params | None = None,
) -> Journal:
    """Train `model` in place from step `start` to `steps` and return what happened on the way.

    `snapshot` gives the optimizer's state to start from, `keep_at` the steps to keep snapshots of,
    by name; `best` and `final` are always kept. `method` says what happens to `masks` meanwhile, on
    the way to `sparsity` and with `choose` where it makes masks itself. Every few minutes a
    checkpoint goes to `resume`, from which a killed stage goes on to the same bytes. Raises
    `PruningError` naming the epoch when the loss diverges; the last good checkpoint is then in
    `resume`.
    """
    per_epoch = samples.steps_per_epoch(recipe)
    steps = recipe.epochs * per_epoch if steps is None else steps
    rate = rate or learning_rate_of(recipe, per_epoch)
    optimizer = optimizer_for(model, recipe)
    if snapshot is not None:
        restore(model, snapshot, optimizer=optimizer)
    keeper = Keeper(model, optimizer, resume, checkpoint_minutes, keep_at or {}, history_in)
    begin = keeper.begin(start)
    losses: list[Tensor] = []

    def after_step(step: int, loss: Tensor) -> None:
        losses.append(loss)
        keeper.keep_due(step)
        if step % per_epoch == 0 or step == steps:
            train_loss = float(torch.stack(losses).mean())
            losses.clear()
            parallel.joined(model, keeper.course.masks if keeper.course else {})
            found = evaluate(model, samples.validation())
            if not math.isfinite(found[0]):  # the last step broke what its own loss did not show
                raise Diverged(step - 1, found[0])
            keeper.close_epoch(step, -(-step // per_epoch), train_loss, found, rate(step - 1))
        report(step - start, steps - start)

    setting = during.Training(
        model=model,
        optimizer=optimizer,
        masks=parallel.same_masks(masks or {}),
        sparsity=sparsity,
        initial=mask_tools.sparsity(masks or {}),
        steps=steps,
        steps_per_epoch=per_epoch,
        choose=choose,
        start=begin,
        seed=samples.seed,
        trained=trained,
        state=keeper.course_state,
    )
    with resolve("during", method)(setting) as course:
        keeper.course = course
        try:
            fit(
                model,
                samples.training(recipe, begin),
                optimizer,
                **parallel.shared(cross_entropy),
                steps=steps,
                start=begin,
                lr=rate,
                clip=recipe.clip,
                precision=recipe.precision,
                compile=recipe.compile,
                hooks=[course.hook, after_step],
            )
        except Diverged as error:
            keeper.write_checkpoint()
            raise PruningError(
                f"the loss became {error.loss} in epoch {error.step // per_epoch + 1} (step "
                f"{error.step}); the last good checkpoint is in {resume}"
            ) from None
    journal = keeper.finish(steps)
    journal.masks = course.masks
    return journal
