"""The one exception of the package: a refusal that names the value, its origin and the choices."""

from collections.abc import Iterable


class PruningError(ValueError):
    """Bad input or a promise that cannot be kept, told in one line."""


def unknown(what: str, value: object, choices: Iterable[str], where: str = "") -> PruningError:
    """Return the error for a `value` that is none of the `choices` for `what`, found at `where`."""
    origin = f"{where}: " if where else ""
    return PruningError(f"{origin}unknown {what} {value!r}; choose from {', '.join(choices)}")
