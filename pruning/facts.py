"""Facts in JSON files: the same facts give the same bytes, and an unreadable file is named."""

import json
from pathlib import Path
from typing import Any

from pruning.errors import PruningError


def write_json(path: Path, facts: Any) -> None:
    """Write facts with sorted keys, so that the same facts give the same bytes.

    Raises `PruningError` for what is no JSON, NaN included, and where the file cannot be written.
    """
    try:
        path.write_text(json.dumps(facts, indent=2, sort_keys=True, allow_nan=False) + "\n")
    except (OSError, TypeError, ValueError) as error:
        raise PruningError(f"{path}: cannot be written: {error}") from error


def read_json(path: Path) -> Any:
    """Return the facts of a file; raises `PruningError` if it is absent or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PruningError(f"{path}: no readable JSON: {error}") from error
