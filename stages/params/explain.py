"""One line about the first thing that is wrong in params.yaml."""

from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

from pruning.errors import PruningError


def explain(path: Path, error: ValidationError, whole: type[BaseModel]) -> NoReturn:
    """Raise `PruningError` with the key, the value and the choices; `whole` is all of the file."""
    first = error.errors()[0]
    key = "".join(f"{part}." for part in first["loc"]).removesuffix(".")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        choices = ", ".join(_fields_at(whole, first["loc"][:-1]))
        raise PruningError(f"{path}: {key}: unknown key; choose from {choices}{more}") from None
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if first["type"] == "model_type":
        message = f"not a mapping; its keys are {', '.join(_fields_at(whole, first['loc']))}"
    shown = "" if first["type"] in ("value_error", "missing") else f"{first['input']!r}: "
    where = f"{path}: {key}: " if key else f"{path}: "
    raise PruningError(f"{where}{shown}{message}{more}") from None


def _fields_at(whole: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the part of params.yaml at `location` may have."""
    part: Any = whole
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
    return [*getattr(part, "STANDS_FOR_SEVERAL", ()), *fields]


def _model_in(annotation: Any) -> Any:
    """Return the model inside `list[Model]`, `dict[str, Model]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [_model_in(argument) for argument in getattr(annotation, "__args__", ())]
    return next((model for model in inner if model is not None), None)
