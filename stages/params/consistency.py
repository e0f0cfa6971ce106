"""What the parts of params.yaml must have in common."""

from typing import TYPE_CHECKING

from stages.params import export_params, own_code, protocol
from stages.params.methods import Round, during_with

if TYPE_CHECKING:
    from stages.params import Params


def check(params: "Params") -> None:
    """Refuse, with `ValueError`, rounds, lists and names that do not fit each other."""
    _check_rounds(params.rounds)
    _check_experiments(params)
    for name in params.experiments:
        _check_rewind(params, name)
        _check_batches(params, name)
        _check_targets(params, name)
    export_params.check_checkpoints(
        params.checkpoints,
        params.cross_validation.replicates,
        [*params.snapshots.steps, *params.snapshots.epochs],
    )
    own_code.check(params)
    if params.papers is not None:
        protocol.check(params.papers, params.experiments, params.data.name)


def _check_rounds(rounds: list[Round]) -> None:
    for index, entry in enumerate(rounds):
        if (entry.n, entry.from_) != (index + 1, index):
            raise ValueError(
                f"rounds.{index}: n: {entry.n}, from: {entry.from_}; rounds count from 1 and each "
                f"starts from the one before, so expected n: {index + 1}, from: {index}"
            )
    sparsities = [entry.sparsity for entry in rounds if entry.sparsity is not None]
    if sparsities != sorted(sparsities):
        raise ValueError(f"rounds: sparsities {sparsities} must not fall from round to round")
    export_params.check_shares([entry.target for entry in rounds if entry.target is not None])


def _check_experiments(params: "Params") -> None:
    own = params.iterative + params.one_shot
    placed = own + [each.experiment for each in params.controls]
    if sorted(placed) != sorted(params.experiments) or len(set(placed)) != len(placed):
        raise ValueError(
            f"experiments {params.experiments} must be iterative {params.iterative}, one_shot "
            f"{params.one_shot} or the controls of others {placed[len(own) :]}, each in one of the "
            f"three lists"
        )
    for each in params.controls:
        if each.of not in own:
            raise ValueError(
                f"controls: {each.of!r} has no masks of its own for {each.experiment!r}; choose "
                f"from {', '.join(own)}"
            )
    for name in params.experiments:
        if name not in params.methods:
            raise ValueError(
                f"experiments: {name!r} has no row in methods; choose from "
                f"{', '.join(params.methods)}"
            )
    named = {"control": [params.control] if params.control else [], "export": params.export}
    named |= {
        f"methods.{name}.control_of": _control_of(params, name) for name in params.experiments
    }
    for key, names in named.items():
        for name in names:
            _check_is_experiment(params, key, name)
    if params.export and "exporting" not in params.model_fields_set:
        raise ValueError("export: the settings are missing; exporting: {} takes their defaults")


def _control_of(params: "Params", name: str) -> list[str]:
    of = params.methods[name].control_of
    return [] if of is None else [of]


def _check_is_experiment(params: "Params", key: str, name: str) -> None:
    if name not in params.experiments:
        none = ", or null for none" if key == "control" else ""
        choices = ", ".join(params.experiments)
        raise ValueError(f"{key}: {name!r} is no experiment; choose from {choices}{none}")


def _check_rewind(params: "Params", name: str) -> None:
    rewind = params.methods[name].rewind
    steps, epochs = [0, *params.snapshots.steps], [0, *params.snapshots.epochs]
    if max(epochs) > params.training.epochs:
        raise ValueError(
            f"snapshots.epochs: {max(epochs)} comes after the end of training, which has "
            f"{params.training.epochs} epochs"
        )
    kept = {"step": steps, "epoch": epochs}
    for kind, at in rewind.items():
        if kind in kept and at not in kept[kind]:
            raise ValueError(
                f"methods.{name}.rewind: no snapshot at {kind} {at}; snapshots keeps {kind}s "
                f"{', '.join(map(str, kept[kind]))}"
            )


def _check_batches(params: "Params", name: str) -> None:
    """Steps are what a schedule resumes at, and in other batches they are of another epoch."""
    finetune, size = params.methods[name].finetune, params.training.batch_size
    if finetune.resume == "rewound" and finetune.batch_size not in (None, size):
        raise ValueError(
            f"methods.{name}.finetune.batch_size: {finetune.batch_size} with resume: rewound, "
            f"which counts steps of training.batch_size: {size}; use {size}, or resume: start or "
            f"end"
        )


def _check_targets(params: "Params", name: str) -> None:
    prune = params.methods[name].prune
    if prune.fraction is not None or not prune.has_budget:
        return
    missing = [each.n for each in params.rounds if each.sparsity is None and each.target is None]
    if missing:
        raise ValueError(
            f"methods.{name}: round {missing[0]} names no sparsity and the method no fraction"
        )
    budgets = [each for each in params.rounds if each.target is not None]
    if budgets and (prune.coupled is None or prune.in_training):
        raise ValueError(
            f"methods.{name}: round {budgets[0].n} asks for {budgets[0].target}; that takes "
            "filters that go whole before training: set prune.coupled to whole, sum, mean or max "
            f"and prune.during to one of {during_with('given')}"
        )
