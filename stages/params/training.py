"""The parts of params.yaml about data, folds, the network and how it is trained."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from stages.params import settings
from stages.params.parts import Count, Part, choice


class Data(Part):
    """Which images."""

    name: Annotated[str, AfterValidator(settings.dataset)]
    root: str | None = None
    download: bool = False
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    size: Count | None = None
    limit: Count | None = None


class CrossValidation(Part):
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


class Training(Part):
    """How the dense network is trained, and every recovery that says nothing else."""

    epochs: Count
    batch_size: Count = 64
    optimizer: Optimizer = Optimizer()
    learning_rate: LearningRate
    augment: list[Literal["crop", "flip"]] = []
    padding: Annotated[int, Field(ge=0)] = 4
    initialization: choice("initialization") = {"name": "own"}  # type: ignore[valid-type]
    clip: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None
    during: choice("during") = {"name": "none"}  # type: ignore[valid-type]
    device: Annotated[str, AfterValidator(settings.device)] = "cpu"


class Snapshots(Part):
    """When pretraining keeps a snapshot beside step 0, the best validation score and the end."""

    steps: list[Annotated[int, Field(ge=0)]] = []
    epochs: list[Annotated[int, Field(ge=0)]] = []
