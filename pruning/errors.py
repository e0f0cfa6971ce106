"""The one exception of the package: a refusal that names the value, its origin and the choices."""

from collections.abc import Iterable


class PruningError(ValueError):
    """Bad input or a promise that cannot be kept, told in one line."""


def unknown(what: str, value: object, choices: Iterable[str], where: str = "") -> PruningError:
    """Return the error for a `value` that is none of the `choices` for `what`, found at `where`."""
    origin = f"{where}: " if where else ""
    return PruningError(f"{origin}unknown {what} {value!r}; choose from {', '.join(choices)}")


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type where it says nothing.

    >>> first_line(RuntimeError("no such size\\nraised at line 3")), first_line(KeyError())
    ('no such size', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
