"""A study's settings in words, for the report."""

from collections.abc import Mapping
from typing import Any

from stages.params import Finetune, Method, Params

SHUFFLED = ", shuffled within layers"


def training(params: Params) -> str:
    """Return how the dense network is trained, in a sentence."""
    recipe, rate = params.training, params.training.learning_rate
    optimizer = {"name": recipe.optimizer.name, **(recipe.optimizer.model_extra or {})}
    return (
        f"The dense network is trained for {_count(recipe.epochs, 'epoch')} in batches of "
        f"{recipe.batch_size} by {_choice(optimizer)}, learning rate {rate.base:g} "
        f"({_choice({'name': rate.name, **rate.settings})})."
    )


def experiments(params: Params) -> str:
    """Return what each experiment does, a line each."""
    return "\n".join(_experiment(params, name) for name in params.experiments)


def masks_of(params: Params, name: str) -> str:
    """Return whose masks an experiment takes, in words; "" if it makes its own."""
    of, shuffled = params.lender(name), params.method(name).prune.shuffle
    return f"the masks of {of}" + (SHUFFLED if shuffled else "") if of else ""


def _experiment(params: Params, name: str) -> str:
    method = params.method(name)
    prune = method.prune
    control = " (the control)" if name == params.control else ""
    of = f" (a control of {method.control_of})" if method.control_of else ""
    masks = masks_of(params, name) or _own_masks(params, name)
    kept = f", the rest compensated by {_choice(prune.compensation)}" if prune.compensates else ""
    meanwhile = "" if prune.during["name"] == "hard" else f", {_choice(prune.during)} in training"
    return f"- **{name}**{control}{of}: {masks}{kept}{meanwhile}; then {_recovery(method, params)}."


def _own_masks(params: Params, name: str) -> str:
    prune = params.method(name).prune
    chain = "iterative" if name in params.iterative else "one-shot"
    piece = "single weights" if prune.granularity == "weight" else f"{prune.granularity}s"
    chosen = f"{chain}, {piece} by {_choice(prune.criterion)}, {_choice(prune.allocation)}"
    return chosen + (SHUFFLED if prune.shuffle else "")


def _recovery(method: Method, params: Params) -> str:
    finetune, point = method.finetune, _point(method.rewind)
    named = {
        ("final", "end"): "fine-tuning",
        ("final", "rewound"): f"learning-rate rewinding to {point}",
        ("rewound", "rewound"): f"rewinding of weights and learning rate to {point}",
        ("rewound", "start"): f"training from the weights of {point}",
        ("reinitialised", "start"): f"training from fresh weights ({_fresh(finetune, params)})",
    }
    other = f"weights {finetune.weights}, learning rate from {finetune.resume}"
    words = named.get((finetune.weights, finetune.resume), other)
    if finetune.epochs is not None:
        words += f", {_count(finetune.epochs, 'epoch')}"
    if finetune.learning_rate is not None:
        words += f" at learning rate {finetune.learning_rate.base:g}"
    return words


def _fresh(finetune: Finetune, params: Params) -> str:
    chosen = finetune.initialization
    return _choice(params.training.initialization if chosen["name"] == "own" else chosen)


def _point(rewind: Mapping[str, Any]) -> str:
    kind, at = next(iter(rewind.items()))
    if kind in ("best", "final"):
        return {"best": "the best epoch", "final": "the end of training"}[kind]
    return "the initialisation" if at == 0 else f"{kind} {at}"


def _choice(choice: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in choice.items() if key != "name")
    return f"{choice['name']} ({settings})" if settings else str(choice["name"])


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
