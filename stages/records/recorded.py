"""The record of a finished study: what its results page is made from, small enough for git."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruning.errors import PruningError

if TYPE_CHECKING:
    import pandas as pd

    from stages.params import Params

FOLDER = "record"
RESULTS, RUNS, PARAMS, FACTS = "results.csv", "runs.csv", "params.yaml", "record.json"

COLUMNS = (
    *("experiment", "round", "fold", "seed", "target_sparsity", "sparsity"),
    *("weights", "weights_kept", "parameters", "steps", "lowest_loss_step"),
    *("validation_accuracy", "validation_accuracy_before_recovery"),
    *("test_accuracy", "test_loss"),
)
"""Columns of results.csv, one line a network: shares and accuracies are fractions.

`lowest_loss_step` is the training step, at the end of an epoch, of the lowest validation loss.
"""

COUNTS = (
    *("round", "fold", "seed", "weights", "weights_kept", "parameters"),
    *("steps", "lowest_loss_step"),
)
"""Those that are whole numbers."""

RUN_COLUMNS = ("experiment", "fold", "run_id")

NEEDED = {
    "study": str,
    "commit": str,
    "changed": list,
    "dvc_lock": str,
    "reports": str,
    "seconds": (int, float),
    "machine": dict,
}
"""What record.json holds, by kind."""


@dataclass(frozen=True)
class Record:
    """A protocol's folder: what it says now, and what was run, if it was."""

    name: str
    params: "Params"
    results: "pd.DataFrame | None"
    facts: dict[str, Any]
    runs: tuple[tuple[str, str, str], ...]
    """(experiment, fold or "" for the experiment's own, MLflow's run id)."""
    changed: bool
    """Whether settings have changed since the record was written; its words may."""


def read(folder: Path) -> Record:
    """Return a protocol's folder; refuse a record that is not whole."""
    from stages.params import read as read_params

    params, record = read_params(folder / "params.yaml"), folder / FOLDER
    if not record.is_dir():
        return Record(folder.name, params, None, {}, (), False)
    ran = read_params(record / PARAMS)
    settings = [each.model_dump(exclude={"papers"}) for each in (params, ran)]
    results = _results(record / RESULTS)
    facts, runs = _facts(record / FACTS), _runs(record / RUNS)
    # what was run is what counts: only words that are not about the run are those of today's file
    papers = params.papers if settings[0] == settings[1] else ran.papers
    if papers and ran.papers:
        papers = papers.model_copy(update={"departures": ran.papers.departures})
    ran = ran.model_copy(update={"papers": papers})
    return Record(folder.name, ran, results, facts, runs, settings[0] != settings[1])


def _results(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        found = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise PruningError(f"{path}: cannot be read as a table: {error}") from None
    missing = [name for name in ("experiment", "round", "fold", "sparsity") if name not in found]
    missing += [name for name in COLUMNS if name.endswith("test_accuracy") and name not in found]
    if missing:
        raise PruningError(f"{path}: lacks {', '.join(missing)}; needed: {', '.join(COLUMNS)}")
    return found


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PruningError(f"{path}: cannot be read: {error}") from None
    for name, kind in NEEDED.items():
        if not isinstance(facts, dict) or not isinstance(facts.get(name), kind):
            raise PruningError(f"{path}: {name} is missing or of another kind")
    return dict(facts)


def _runs(path: Path) -> tuple[tuple[str, str, str], ...]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
    except (OSError, ValueError) as error:
        raise PruningError(f"{path}: cannot be read: {error}") from None
    if tuple(header) != RUN_COLUMNS or any(len(line) != len(RUN_COLUMNS) for line in lines):
        raise PruningError(f"{path}: {header}; needed: {', '.join(RUN_COLUMNS)}")
    return tuple((line[0], line[1], line[2]) for line in lines)
