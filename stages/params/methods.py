"""The parts of params.yaml that make a method: its rounds, its masks, its recovery."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pruning import catalogue
from stages.params import export_params, settings, signal_params
from stages.params.parts import Count, Name, Part, Sparsity, choice
from stages.params.training import LearningRate, Optimizer


def during_with(trait: str) -> str:
    """Return the choices of `during` that have a trait (`pruning.traits`), in one line."""
    found = catalogue.entries("during").items()
    return ", ".join(name for name, entry in found if trait in entry.traits)


class Round(Part):
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


class Fraction(Part):
    """Prune this fraction of the remaining weights each round until more than `until` is pruned."""

    rate: Annotated[float, Field(gt=0, lt=1)]
    until: Sparsity


class Evidence(Part):
    """How much of the training part a criterion sees."""

    batches: Count | Literal["all"] = 4
    batch_size: Count = 128


class Prune(Part):
    """The axes that make a mask."""

    STANDS_FOR_SEVERAL: ClassVar = ("preset",)
    """Keys that a person may give beside the fields."""

    criterion: choice("criterion") = {"name": "magnitude"}  # type: ignore[valid-type]
    granularity: Annotated[str, AfterValidator(settings.granularity)] = "weight"
    reduce: Literal["sum", "mean", "max"] = "sum"
    allocation: choice("allocation") = {"name": "global"}  # type: ignore[valid-type]
    score_weights: Literal["current", "rewound"] = "current"
    only: list[str] | None = None
    skip: list[str] = []
    compensation: choice("compensation") = {"name": "none"}  # type: ignore[valid-type]
    during: choice("during") = {"name": "hard"}  # type: ignore[valid-type]
    rounds: Count = 1
    schedule: choice("schedule") = {"name": "geometric"}  # type: ignore[valid-type]
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
                f"{self.during['name']} chooses them while it trains; use {during_with('given')}"
            )
        return self

    @model_validator(mode="after")
    def _compensates_for_what_goes(self) -> "Prune":
        if self.compensates and self.in_training:
            raise ValueError(
                f"compensation: {self.compensation['name']} needs masks that are there before "
                f"training, and during: {self.during['name']} chooses them while it trains; use "
                f"{during_with('given')}"
            )
        return self

    @model_validator(mode="after")
    def _couples_what_can_be(self) -> "Prune":
        if self.coupled is None and self.round_to > 1:
            raise ValueError("round_to counts filters that go whole: it needs coupled")
        if self.coupled is not None:
            if self.shuffle:
                raise ValueError(f"coupled: {self.coupled} and shuffle: true exclude each other")
            if self.during_is("single"):
                raise ValueError(
                    f"coupled: {self.coupled} takes filters whole, {self.during['name']} chooses "
                    "single weights"
                )
            inputs = self.coupled == "whole" and self.granularity == "channel"
            if self.compensation["name"] == "l_obs" and not inputs:
                raise ValueError(
                    f"coupled: {self.coupled} takes filters with their biases and norms, which "
                    "leaves compensation: l_obs nothing to correct; use compensation: none"
                )
            found = self.coupled, self.granularity, self.allocation, self.rounds, self.round_to
            export_params.check_coupling(*found)
        return self

    @property
    def in_training(self) -> bool:
        """Return whether the masks are chosen while the network trains, not before."""
        return not self.during_is("given")

    def during_is(self, trait: str) -> bool:
        """Return whether what happens while the network trains has a trait (`pruning.traits`)."""
        return trait in catalogue.traits_of("during", self.during["name"])

    @property
    def compensates(self) -> bool:
        """Return whether kept weights change when others go."""
        return bool(self.compensation["name"] != "none")

    @property
    def has_budget(self) -> bool:
        """Return whether a round's sparsity is looked at: not where the allocation brings its own.

        Masks that are chosen while the network trains follow a schedule to it in any case.
        """
        return self.in_training or self.allocation["name"] not in settings.UNBUDGETED


class Finetune(Part):
    """Recovery: which weights to start from, and where the learning-rate schedule resumes."""

    weights: Literal["final", "rewound", "reinitialised"] = "final"
    resume: Literal["end", "rewound", "start"] = "end"
    epochs: Count | None = None
    learning_rate: LearningRate | None = None
    optimizer: Optimizer | None = None
    batch_size: Count | None = None
    initialization: choice("initialization") = {"name": "own"}  # type: ignore[valid-type]
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


class Method(Part):
    """One row of choices."""

    rewind: Annotated[dict[str, Any], BeforeValidator(_rewind)]
    control_of: Name | None = None
    prune: Prune
    finetune: Finetune

    @model_validator(mode="after")
    def _starts_from_what_was_compensated(self) -> "Method":
        if self.prune.compensates and self.finetune.weights != "final":
            raise ValueError(
                f"prune.compensation: {self.prune.compensation['name']} is lost under "
                f"finetune.weights: {self.finetune.weights}; use weights: final"
            )
        return self

    @model_validator(mode="after")
    def _keeps_what_fits_the_masks(self) -> "Method":
        if self.finetune.keep == "best" and not self.prune.during_is("fixed"):
            raise ValueError(
                f"finetune.keep: best has the weights of an epoch before the last masks of "
                f"prune.during: {self.prune.during['name']}; keep: last, or during: "
                f"{during_with('fixed')}"
            )
        return self


class Control(Part):
    """An experiment that takes the masks of another's rounds: shuffled, or under other weights."""

    experiment: Name
    of: Name
