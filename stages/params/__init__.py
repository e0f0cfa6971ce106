"""params.yaml: the one file that users edit, checked before anything is computed from it."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from pruning.errors import PruningError
from stages.params import consistency, export_params, protocol
from stages.params.explain import explain
from stages.params.methods import Control, Finetune, Method, Prune, Round
from stages.params.own_code import OwnFile
from stages.params.parts import Name, Part
from stages.params.training import CrossValidation, Data, ModelSpec, Snapshots, Training
from stages.params.yaml_file import read_mapping

__all__ = ["Finetune", "Method", "ModelSpec", "Params", "Prune", "Training", "read"]


class Params(Part):
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
    own_code: list[OwnFile] = []
    """Files beside params.yaml whose functions it names, for DVC to see when they change."""
    tracking: bool = True
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 3
    papers: protocol.Protocol | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        consistency.check(self)
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
        explain(path, error, Params)
