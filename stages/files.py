"""Where each stage's output lies and what its manifest says."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pruning.errors import PruningError
from pruning.facts import read_json, write_json
from pruning.folders import whole

PREPARED = Path("data/prepared")
DENSE = Path("work/dense")
REPORTS = Path("reports")
RESUME = Path("work/.resume")
CHECKED = Path("work/checked.json")
GIVEN = Path("work/given")
OWN_CODE = Path("work/own_code")
TRAINING_CODE = Path("work/own_code.json")


def given(number: int) -> Path:
    """Return the output of the checkpoint stage."""
    return GIVEN / f"checkpoint-{number}"


def code_of(experiment: str) -> Path:
    """Return the file that says which of one's own code an experiment uses."""
    return Path("work") / experiment / "own_code.json"


def start_of(experiment: str) -> Path:
    """Return where an experiment starts: round 0, the dense network and what it rewinds to."""
    return tuned(experiment, 0)


def pruned(experiment: str, n: int) -> Path:
    """Return the output of the prune stage."""
    return Path("work") / experiment / f"round-{n}" / "pruned"


def tuned(experiment: str, n: int) -> Path:
    """Return the output of the finetune stage; of round 0, that of the snapshot stage."""
    return Path("work") / experiment / f"round-{n}" / "tuned"


def result(experiment: str, n: int) -> Path:
    """Return the output of the evaluate stage."""
    return Path("results") / experiment / f"round-{n}"


def exported(experiment: str, n: int | None = None, fold: int | None = None) -> Path:
    """Return the output of the export stage: the network handed on, or the one named."""
    named = "handed-on" if n is None else f"round-{n}-fold-{fold}"
    return Path("exports") / experiment / named


def gains(experiment: str) -> Path:
    """Return the output of the gains stage."""
    return Path("results/gains") / experiment


def sensitivities(experiment: str) -> Path:
    """Return the output of the sensitivity analysis, which nothing else is made from."""
    return Path("work/sensitivity") / experiment


def fold_of(folder: Path, fold: int) -> Path:
    """Return the part of one fold."""
    return folder / f"fold-{fold}"


@dataclass(frozen=True)
class Manifest:
    """What an output folder is: deterministic, no time and no run id."""

    study: str
    stage: str
    experiment: str | None
    round: int
    folds: Sequence[int]
    params: Mapping[str, Any]
    """The settings of this stage."""
    group: Mapping[str, Any]
    """All settings that define the experiment, except how many rounds it goes."""
    inputs: Sequence[Path] = field(default=())
    """The folders that the stage read."""

    def facts(self) -> dict[str, Any]:
        """Return what is written, with a key over all of it and the inputs' keys."""
        facts = {
            "study": self.study,
            "stage": self.stage,
            "experiment": self.experiment,
            "round": self.round,
            "folds": list(self.folds),
            "params": dict(self.params),
            "group": dict(self.group),
            "inputs": {path.as_posix(): read_manifest(path)["key"] for path in self.inputs},
        }
        return {**facts, "key": key_of(facts)}


def key_of(facts: Mapping[str, Any]) -> str:
    """Return the hash of facts, the same wherever they are computed."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an output folder; refuse a folder that no stage has finished."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise PruningError(f"{folder}: no finished output here; run `dvc repro` or its stage first")
    facts: dict[str, Any] = read_json(path)
    return facts


@contextmanager
def output(folder: Path, manifest: Manifest, only: int | None = None) -> Iterator[Path]:
    """Yield a new folder that takes the place of `folder`, manifest and all, once it is whole.

    With `only` one fold is computed; the others are taken from what is there, if it is of the same
    settings and inputs.
    """
    with whole(folder) as partial:
        if only is not None and _key(folder) == manifest.facts()["key"]:
            for other in sorted(folder.glob("fold-*")):
                if other.name != f"fold-{only}":
                    shutil.copytree(other, partial / other.name)
        yield partial
        write_json(partial / "manifest.json", manifest.facts())


def _key(folder: Path) -> str | None:
    """Return the key of an output folder, if there is one."""
    return read_manifest(folder)["key"] if (folder / "manifest.json").is_file() else None


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV table, whole or not at all; floats keep every digit."""
    lines = [",".join(columns), *(",".join(_cell(value) for value in row) for row in rows)]
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n")
    partial.replace(path)


def _cell(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
