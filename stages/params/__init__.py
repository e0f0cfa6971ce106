"""params.yaml: the one file that users edit, checked before anything is computed from it."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from pruning.errors import PruningError
from stages.params import export_params, protocol, settings, signal_params
from stages.params.yaml_file import read_mapping

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What DVC may put into commands and paths."""

RESERVED = ("dense", "gains", "sparsity", "sensitivity")
"""Names of folders and of a column that the pipeline itself uses beside the experiments'."""


def _choice(axis: str) -> Any:
    """Return the type of a choice on `axis`: a name, or a mapping of `name` and its settings."""
    return Annotated[dict[str, Any], BeforeValidator(settings.choice(axis))]


def _safe_name(name: str) -> str:
    if not NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{name!r} is no name for a folder: use letters, digits, '.', '_' and '-'")
    if name in RESERVED:
        raise ValueError(f"{name!r} is the pipeline's own; choose another name")
    return name


Name = Annotated[str, AfterValidator(_safe_name)]
Sparsity = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


HOLDING = ("hard", "none", "rigl", "set", "slimming")
"""What can happen during training that starts from masks which already are at the target."""


class Strict(BaseModel):
    """A part of params.yaml: no unknown key, no silent conversion, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Data(Strict):
    """Which images."""

    name: Annotated[str, AfterValidator(settings.dataset)]
    root: str | None = None
    download: bool = False
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    size: Count | None = None
    limit: Count | None = None


class CrossValidation(Strict):
    """Who trains and who validates."""

    folds: Count = 3
    repeats: Count = 1
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def replicates(self) -> int:
        """Return how many networks each stage trains, one a fold and repeat."""
        return self.folds * self.repeats


class ModelSpec(BaseModel):
    """A factory with its keyword arguments, whatever they are."""

    model_config = ConfigDict(extra="allow", frozen=True)
    factory: str

    @model_validator(mode="after")
    def _known(self) -> "ModelSpec":
        settings.check_settings("model", self.factory, self.model_extra or {})
        return self


class Optimizer(BaseModel):
    """An optimizer of torch.optim with its settings."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: Literal["sgd", "adam", "adamw", "nadam", "radam", "rmsprop", "adagrad"] = "sgd"

    @model_validator(mode="after")
    def _known(self) -> "Optimizer":
        settings.optimizer(self.name, self.model_extra or {})
        return self


class LearningRate(BaseModel):
    """The base rate, how it moves (with that schedule's settings), and a linear warm-up."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    base: Annotated[float, Field(gt=0)]
    name: str = "constant"
    warmup: Annotated[float, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _known(self) -> "LearningRate":
        settings.check_settings("learning rate", self.name, self.settings)
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings of the schedule itself."""
        return dict(self.model_extra or {})


class Training(Strict):
    """How the dense network is trained, and every recovery that says nothing else."""

    epochs: Count
    batch_size: Count = 64
    optimizer: Optimizer = Optimizer()
    learning_rate: LearningRate
    augment: list[Literal["crop", "flip"]] = []
    padding: Annotated[int, Field(ge=0)] = 4
    initialization: _choice("initialization") = {"name": "own"}  # type: ignore[valid-type]
    clip: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    during: _choice("during") = {"name": "none"}  # type: ignore[valid-type]
    device: Annotated[str, AfterValidator(settings.device)] = "cpu"


class Snapshots(Strict):
    """When pretraining keeps a snapshot beside step 0, the best validation score and the end."""

    steps: list[Annotated[int, Field(ge=0)]] = []
    epochs: list[Annotated[int, Field(ge=0)]] = []


class Round(Strict):
    """One round: its number, the round that it starts from, the sparsity that it reaches."""

    n: Count
    from_: Annotated[int, Field(ge=0, alias="from")]
    sparsity: Sparsity | None = None
    target: export_params.Budget | None = None

    @model_validator(mode="after")
    def _has_one_aim(self) -> "Round":
        if self.sparsity is not None and self.target is not None:
            raise ValueError("a round has a sparsity or a target, not both")
        return self


class Fraction(Strict):
    """Prune this fraction of the remaining weights each round until more than `until` is pruned."""

    rate: Annotated[float, Field(gt=0, lt=1)]
    until: Sparsity


class Evidence(Strict):
    """How much of the training part a criterion sees."""

    batches: Count | Literal["all"] = 4
    batch_size: Count = 128


class Prune(Strict):
    """The axes that make a mask."""

    criterion: _choice("criterion") = {"name": "magnitude"}  # type: ignore[valid-type]
    granularity: Annotated[str, AfterValidator(settings.granularity)] = "weight"
    reduce: Literal["sum", "mean", "max"] = "sum"
    allocation: _choice("allocation") = {"name": "global"}  # type: ignore[valid-type]
    score_weights: Literal["current", "rewound"] = "current"
    only: list[str] | None = None
    skip: list[str] = []
    during: _choice("during") = {"name": "hard"}  # type: ignore[valid-type]
    rounds: Count = 1
    schedule: _choice("schedule") = {"name": "geometric"}  # type: ignore[valid-type]
    fraction: Fraction | None = None
    evidence: Evidence = Evidence()
    allow_regrowth: bool = False
    shuffle: bool = False
    on_collapse: Literal["warn", "error"] = "warn"
    coupled: Literal["whole", "sum", "mean", "max"] | None = None
    round_to: Count = 1

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        """Let `preset` stand for a published row, in which single settings may be changed."""
        if not isinstance(given, dict) or "preset" not in given:
            return given
        rest = {key: value for key, value in given.items() if key != "preset"}
        return {**settings.preset(given["preset"]), **rest}

    @model_validator(mode="after")
    def _shuffles_what_is_there(self) -> "Prune":
        if self.shuffle and self.in_training:
            raise ValueError(
                f"shuffle: true needs masks that are there before training, and during: "
                f"{self.during['name']} chooses them while it trains; use {', '.join(HOLDING)}"
            )
        return self

    @model_validator(mode="after")
    def _couples_what_can_be(self) -> "Prune":
        if self.coupled is None and self.round_to > 1:
            raise ValueError("round_to counts filters that go whole: it needs coupled")
        if self.coupled is not None:
            if self.shuffle:
                raise ValueError(f"coupled: {self.coupled} and shuffle: true exclude each other")
            if self.during["name"] in ("splicing", "rnn"):
                raise ValueError(
                    f"coupled: {self.coupled} takes filters whole, {self.during['name']} chooses "
                    "single weights"
                )
            found = self.coupled, self.granularity, self.allocation, self.rounds, self.round_to
            export_params.check_coupling(*found)
        return self

    @property
    def in_training(self) -> bool:
        """Return whether the masks are chosen while the network trains, not before."""
        return self.during["name"] not in HOLDING

    @property
    def has_budget(self) -> bool:
        """Return whether a round's sparsity is looked at: not where the allocation brings its own.

        Masks that are chosen while the network trains follow a schedule to it in any case.
        """
        return self.in_training or self.allocation["name"] not in settings.UNBUDGETED


class Finetune(Strict):
    """Recovery: which weights to start from, and where the learning-rate schedule resumes."""

    weights: Literal["final", "rewound", "reinitialised"] = "final"
    resume: Literal["end", "rewound", "start"] = "end"
    epochs: Count | None = None
    learning_rate: LearningRate | None = None
    optimizer: Optimizer | None = None
    batch_size: Count | None = None
    initialization: _choice("initialization") = {"name": "own"}  # type: ignore[valid-type]
    keep: Literal["last", "best"] = "last"
    isometry: signal_params.Isometry | None = None
    spectrum: signal_params.Spectrum | None = None

    @model_validator(mode="after")
    def _has_epochs(self) -> "Finetune":
        if self.resume == "end" and self.epochs is None:
            raise ValueError("epochs must be given where the schedule resumes at its end")
        return self


def _rewind(value: Any) -> dict[str, Any]:
    named = {"init": {"step": 0}, "best": {"best": True}, "final": {"final": True}}
    if isinstance(value, str) and value in named:
        return named[value]
    wants = isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ("step", "epoch")
    if wants and type(at := next(iter(value.values()))) is int and at >= 0:
        return dict(value)
    raise ValueError(f"{value!r} is no point to rewind to: init, best, final, step: k or epoch: k")


class Method(Strict):
    """One row of choices."""

    rewind: Annotated[dict[str, Any], BeforeValidator(_rewind)]
    control_of: Name | None = None
    prune: Prune
    finetune: Finetune


class Control(Strict):
    """An experiment that takes the masks of another's rounds: shuffled, or under other weights."""

    experiment: Name
    of: Name


class Params(Strict):
    """All of params.yaml."""

    study: Name
    code: str = "."
    """Where the package's source is, seen from the folder of the study; dvc.yaml alone reads it."""
    data: Data
    cross_validation: CrossValidation
    model: ModelSpec
    training: Training
    snapshots: Snapshots
    rounds: Annotated[list[Round], Field(min_length=1)]
    experiments: Annotated[list[Name], Field(min_length=1)]
    iterative: list[Name]
    one_shot: list[Name]
    controls: list[Control] = []
    methods: dict[Name, Method]
    control: Name | None
    export: list[Name] = []
    exporting: export_params.Exporting = export_params.Exporting()
    checkpoints: list[export_params.Checkpoint] = []
    tracking: bool = True
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 3
    papers: protocol.Protocol | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        _check_rounds(self.rounds)
        _check_experiments(self)
        for name in self.experiments:
            _check_rewind(self, name)
            _check_targets(self, name)
        export_params.check_checkpoints(
            self.checkpoints,
            self.cross_validation.replicates,
            [*self.snapshots.steps, *self.snapshots.epochs],
        )
        if self.papers is not None:
            protocol.check(self.papers, self.experiments, self.data.name)
        return self

    def method(self, experiment: str) -> Method:
        """Return the method of an experiment that runs; refuse another."""
        if experiment not in self.experiments:
            choices = ", ".join(self.experiments)
            raise PruningError(f"unknown experiment {experiment!r}; choose from {choices}")
        return self.methods[experiment]

    def lender(self, experiment: str) -> str | None:
        """Return the experiment whose masks `experiment` takes, if it takes another's."""
        return next((each.of for each in self.controls if each.experiment == experiment), None)

    def checkpoint(self, number: int) -> export_params.Checkpoint:
        """Return a trained network that is given; refuse another number."""
        if not 0 <= number < len(self.checkpoints):
            raise PruningError(
                f"unknown checkpoint {number}; params.yaml gives {len(self.checkpoints)}"
            )
        return self.checkpoints[number]

    def checkpoint_of(self, fold: int) -> int:
        """Return the number of the checkpoint that a fold starts from."""
        return 0 if len(self.checkpoints) == 1 else fold

    def round(self, n: int) -> Round:
        """Return round `n` of the grid; refuse another."""
        if not 1 <= n <= len(self.rounds):
            raise PruningError(f"unknown round {n}; choose from 1 to {len(self.rounds)}")
        return self.rounds[n - 1]


def read(path: Path) -> Params:
    """Return the checked params of a file; raise `PruningError` with one line on what is wrong."""
    content = read_mapping(path)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        _explain(path, error)


def _explain(path: Path, error: ValidationError) -> NoReturn:
    first = error.errors()[0]
    key = "".join(f"{part}." for part in first["loc"]).removesuffix(".")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        choices = ", ".join(_fields_at(first["loc"][:-1]))
        raise PruningError(f"{path}: {key}: unknown key; choose from {choices}{more}") from None
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if first["type"] == "model_type":
        message = f"not a mapping; its keys are {', '.join(_fields_at(first['loc']))}"
    shown = "" if first["type"] in ("value_error", "missing") else f"{first['input']!r}: "
    where = f"{path}: {key}: " if key else f"{path}: "
    raise PruningError(f"{where}{shown}{message}{more}") from None


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the part of params.yaml at `location` may have."""
    part: Any = Params
    for step in location:
        if not (isinstance(part, type) and issubclass(part, BaseModel)):
            break
        field = part.model_fields.get(str(step)) or part.model_fields.get(f"{step}_")
        if field is None:
            continue
        part = _model_in(field.annotation)
    if not (isinstance(part, type) and issubclass(part, BaseModel)):
        return ["none"]
    fields = [field.alias or name for name, field in part.model_fields.items()]
    return ["preset", *fields] if part is Prune else fields


def _model_in(annotation: Any) -> Any:
    """Return the model inside `list[Model]`, `dict[str, Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [_model_in(argument) for argument in getattr(annotation, "__args__", ())]
    return next((model for model in inner if model is not None), None)


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


def _check_experiments(params: Params) -> None:
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
    if params.control is not None and params.control not in params.experiments:
        raise ValueError(
            f"control: {params.control!r} is no experiment; choose from "
            f"{', '.join(params.experiments)}, or null for none"
        )
    for name in params.export:
        if name not in params.experiments:
            raise ValueError(
                f"export: {name!r} is no experiment; choose from {', '.join(params.experiments)}"
            )
    if params.export and "exporting" not in params.model_fields_set:
        raise ValueError("export: the settings are missing; exporting: {} takes their defaults")
    for name in params.experiments:
        of = params.methods[name].control_of
        if of is not None and of not in params.experiments:
            raise ValueError(
                f"methods.{name}.control_of: {of!r} is no experiment; choose from "
                f"{', '.join(params.experiments)}"
            )


def _check_rewind(params: Params, name: str) -> None:
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


def _check_targets(params: Params, name: str) -> None:
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
            f"and prune.during to one of {', '.join(HOLDING)}"
        )
