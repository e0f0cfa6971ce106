"""What all parts of params.yaml are made of."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from stages.params import settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What DVC may put into commands and paths."""

RESERVED = (
    *("dense", "gains", "given", "checked.json", "own_code", "own_code.json"),
    *("sparsity", "sensitivity"),
)
"""Names in work/ and results/, and of a column, that the pipeline uses beside the experiments'."""


class Part(BaseModel):
    """A part of params.yaml: no unknown key, no silent conversion, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def choice(axis: str) -> Any:
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
Share = Annotated[float, Field(gt=0, le=1)]
