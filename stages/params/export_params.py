"""The parts of params.yaml that say how small a network is to get, and what is made of it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.params.parts import Count, Part, Share

Format = Literal["program", "onnx", "compressed", "csr", "semi_structured"]


class Budget(Part):
    """The share of the dense network's cost that a round may leave: exactly one of three."""

    macs: Share | None = None
    parameters: Share | None = None
    latency: Share | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Budget":
        if len(self.given) != 1:
            raise ValueError(
                f"a target is one of macs, parameters and latency; got {self.given or 'none'}"
            )
        return self

    @property
    def given(self) -> dict[str, float]:
        """Return the one that is given, by its name."""
        return dict(self.model_dump(exclude_none=True))

    def __str__(self) -> str:
        """Say it in words."""
        words = {"macs": "multiply-adds", "parameters": "parameters", "latency": "latency"}
        return ", ".join(f"{100 * n:g} % of the {words[name]}" for name, n in self.given.items())


class Exporting(Part):
    """How networks are shrunk, as what they are exported, and how they are timed."""

    round_to: Count = 1
    formats: list[Format] = ["program", "onnx", "compressed"]
    batches: Annotated[list[Count], Field(min_length=1)] = [1, 32]
    threads: Count = 1
    repeats: Count = 30


class Checkpoint(Part):
    """A trained network to start from; its number is its fold where there is one for each."""

    n: Annotated[int, Field(ge=0)]
    file: str


def check_coupling(
    coupled: str, granularity: str, allocation: Mapping[str, Any], rounds: int, round_to: int
) -> None:
    """Refuse settings with which filters cannot go together with what is coupled to them."""
    told = f"coupled: {coupled}"
    if granularity not in ("filter", "channel"):
        raise ValueError(f"{told} needs granularity filter or channel, not {granularity}")
    if coupled == "whole":
        if round_to > 1:
            raise ValueError(f"{told} takes each filter by itself, with no round_to")
        return
    if allocation["name"] not in ("global", "layerwise") or allocation.keys() - {
        "name",
        "min_keep",
    }:
        raise ValueError(
            f"{told} needs allocation global or layerwise, with no setting but min_keep; got "
            f"{allocation}"
        )
    if rounds > 1:
        raise ValueError(f"{told} prunes at once, with rounds: 1")


def check_shares(targets: Sequence[Budget]) -> None:
    """Refuse targets that grow from round to round."""
    shares = [share for target in targets for share in target.given.values()]
    if shares != sorted(shares, reverse=True):
        raise ValueError(f"rounds: targets {shares} must not rise from round to round")


def check_checkpoints(
    checkpoints: Sequence[Checkpoint], replicates: int, snapshots: Sequence[int]
) -> None:
    """Refuse checkpoints that are not numbered, not one or one a fold, or wanted half trained."""
    numbers = [each.n for each in checkpoints]
    if numbers != list(range(len(numbers))):
        raise ValueError(f"checkpoints: numbered {numbers}; expected {[*range(len(numbers))]}")
    if len(numbers) not in (0, 1, replicates):
        raise ValueError(
            f"checkpoints: {len(numbers)} for {replicates} folds; give one for all or one for each"
        )
    if numbers and snapshots:
        raise ValueError(
            "snapshots: a checkpoint has only one, the weights it holds (init, best and final); "
            "leave steps and epochs empty"
        )
