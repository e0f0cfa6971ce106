"""What recovery means: starting weights x where the learning-rate schedule resumes.

Fine-tuning, weight rewinding, learning-rate rewinding, reset to the initialisation, late resetting,
reinitialisation and training from scratch are all points of this plane; none is a code path.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.errors import PruningError
from pruning.rewind import Snapshot, restore
from pruning.tensors import read_tensors
from pruning.training import evaluate
from stages.files import fold_of, start_of
from stages.fold import signals, snapshots
from stages.fold.fitting import learning_rate_of
from stages.fold.journal import Journal
from stages.fold.masking import check_target
from stages.fold.models import redraw
from stages.fold.samples import Samples
from stages.params import Finetune, Params, Prune, Training


@dataclass(frozen=True)
class Plan:
    """A recovery with everything looked up."""

    settings: Finetune
    recipe: Training
    rewind: Snapshot
    start: int
    steps: int
    rate: Callable[[int], float]
    optimizer_from: Snapshot | None
    seed: int
    round: int
    rewound_to: str


def plan(study: Params, experiment: str, n: int, fold: int, sample: Samples) -> Plan:
    """Return the recovery of a round: its recipe, its steps, its learning rate by step."""
    settings = study.method(experiment).finetune
    recipe = _recipe(study.training, settings)
    per_epoch = sample.steps_per_epoch(recipe)
    rewind = snapshots.read(fold_of(start_of(experiment), fold) / "rewind.safetensors")
    start, steps = _span(settings, recipe, rewind.step, per_epoch)
    continues = settings.weights == "rewound" and settings.resume == "rewound"
    return Plan(
        settings=settings,
        recipe=recipe,
        rewind=rewind,
        start=start,
        steps=steps,
        rate=_rate(study.training, settings, recipe, sample),
        optimizer_from=rewind if continues else None,
        seed=sample.seed,
        round=n,
        rewound_to=_origin(settings, rewind.step),
    )


def place_weights(model: nn.Module, masks: Mapping[str, Tensor], plan: Plan) -> None:
    """Give `model` the weights that the recovery starts from, pruned ones zero."""
    if plan.settings.weights == "rewound":
        restore(model, plan.rewind, masks=masks)
    elif plan.settings.weights == "reinitialised":
        redraw(model, plan.settings.initialization, plan.seed, plan.round)
        mask_tools.apply(model, masks)


def begin(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    plan: Plan,
    spectra: signals.Spectra,
    folder: Path,
) -> tuple[Snapshot | None, dict[str, Any]]:
    """Make `model` what the recovery trains: weights placed, isometric where that is asked for.

    Returns the snapshot that the optimizer goes on from, and what metrics.json tells.
    """
    spectra.at_rewind_point(model, plan.rewind)
    place_weights(model, masks, plan)
    spectra.at("pruned", model)
    if plan.settings.isometry is None:
        return plan.optimizer_from, {}
    told = signals.make_isometric(model, masks, plan.settings.isometry, folder)
    spectra.at("isometry", model)
    return signals.with_weights_of(model, plan.optimizer_from), told


def dense_weights(experiment: str, fold: int) -> dict[str, Tensor]:
    """Return the weights of the dense network that a fold of an experiment started from."""
    return read_tensors(fold_of(start_of(experiment), fold) / "weights.safetensors")


def check_sparsity(masks: Mapping[str, Tensor], before: Mapping[str, Any], choices: Prune) -> None:
    """Refuse masks that recovery has moved away from the sparsity that was to be reached."""
    if choices.during_is("unmasked"):
        return
    if not before["stopped"]:
        check_target(masks, before["target_sparsity"], choices)
    kept = mask_tools.kept(masks)
    if not choices.in_training and kept != before["weights_kept"]:
        raise PruningError(
            f"{choices.during['name']}: {kept} weights kept after recovery, "
            f"{before['weights_kept']} before it"
        )


def keep_best(model: nn.Module, journal: Journal, plan: Plan) -> None:
    """Put back the best epoch by validation accuracy where the settings ask for it."""
    if plan.settings.keep == "best":
        restore(model, journal.kept["best"], masks=journal.masks)


def metrics(
    model: nn.Module,
    journal: Journal,
    sample: Samples,
    plan: Plan,
    before: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the metrics of a recovered network, those of its masks and of before included."""
    loss, accuracy = evaluate(model, sample.validation())
    return {
        **before,
        "validation_loss": loss,
        "validation_accuracy": accuracy,
        "best_validation_accuracy": max(accuracy, journal.best_accuracy),
        "rewound_to": plan.rewound_to,
        "recovery_start": plan.start,
        "recovery_steps": plan.steps - plan.start if journal.history else 0,
    }


def _origin(settings: Finetune, step: int) -> str:
    """Return in words what the starting weights were rewound to."""
    return {
        "final": "nothing",
        "rewound": f"step {step}",
        "reinitialised": "fresh weights",
    }[settings.weights]


def _recipe(training: Training, settings: Finetune) -> Training:
    """Return the training recipe with what the recovery overrides."""
    given = {
        name: getattr(settings, name)
        for name in ("epochs", "learning_rate", "optimizer", "batch_size")
        if getattr(settings, name) is not None
    }
    return training.model_copy(update=given)


def _span(settings: Finetune, recipe: Training, step: int, per_epoch: int) -> tuple[int, int]:
    end = recipe.epochs * per_epoch
    start = step if settings.resume == "rewound" else 0
    if start >= end:
        raise PruningError(
            f"nothing left to train: the schedule resumes at step {start} of {end}; rewind to an "
            f"earlier point or resume: start"
        )
    return start, end


def _rate(
    training: Training, settings: Finetune, recipe: Training, sample: Samples
) -> Callable[[int], float]:
    if settings.resume == "end" and settings.learning_rate is None:
        per_epoch = sample.steps_per_epoch(training)
        last = learning_rate_of(training, per_epoch)(training.epochs * per_epoch - 1)
        return lambda _: last
    return learning_rate_of(recipe, sample.steps_per_epoch(recipe))
