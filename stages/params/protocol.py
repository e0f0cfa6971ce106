"""The part of params.yaml that says what a study is in the papers' terms."""

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.literature.seed_tables import LINES
from stages.params.parts import Part

Kind = Literal["weights", "params", "filters", "channels", "neurons"]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Row(Part):
    """Which published rows an experiment answers: all that agree with what is given."""

    method: str | None = None
    """The method's name, or how the names of several begin."""
    arxiv: str | None = None
    model: str | None = None
    sparsity: Fraction | None = None
    round: Annotated[int, Field(ge=1)] | None = None
    """Our round that is the row's network, whatever each counts as sparsity; else by sparsity."""

    @model_validator(mode="after")
    def _names_something(self) -> "Row":
        if not self.model_dump(exclude_none=True, exclude={"round"}):
            raise ValueError("a row needs a method, an arxiv number, a model or a sparsity")
        return self


class Ranking(Part):
    """A published table whose order of methods ours is held against."""

    arxiv: str
    model: str
    dataset: str = "CIFAR-10"
    methods: dict[str, str]
    """By experiment of ours: the published method's name, or how it alone begins."""


class Protocol(Part):
    """A study in the papers' terms; what is left out follows from the other settings."""

    title: str | None = None
    published: str = ""
    """The protocol as published, in a sentence or two."""
    departures: list[str] = []
    """Where ours is another."""
    dataset: str | None = None
    model: str | None = None
    sparsity_kind: Kind | None = None
    methods: dict[str, str] = {}
    """By experiment: its method in words."""
    rows: dict[str, list[Row]] = {}
    """By experiment: the rows it answers; without an entry all first-hand ones within reach (none
    where there are rankings)."""
    seed: dict[str, str] = {}
    """By experiment: the line of the seed project's tables that it answers."""
    rankings: list[Ranking] = []


def check(protocol: Protocol, experiments: Collection[str], data: str) -> None:
    """Raise ValueError where the section names what the study or the seed's tables lack."""
    if protocol.dataset is None and data == "folder":
        raise ValueError("papers.dataset: name it: a folder of images says nothing of the papers'")
    named = {"methods": protocol.methods, "rows": protocol.rows, "seed": protocol.seed}
    named |= {f"rankings.{n}.methods": each.methods for n, each in enumerate(protocol.rankings)}
    for part, mapping in named.items():
        for name in mapping:
            if name not in experiments:
                choices = ", ".join(experiments)
                raise ValueError(f"papers.{part}: {name!r} is no experiment; choose from {choices}")
    for name, line in protocol.seed.items():
        if line not in LINES:
            raise ValueError(
                f"papers.seed.{name}: {line!r} is no line of the seed's tables; choose from "
                f"{', '.join(LINES)}"
            )
