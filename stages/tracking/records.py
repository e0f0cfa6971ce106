"""What an output folder says of itself, as plain data: its makers, its making, its measures."""

import csv
import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pruning.errors import PruningError

MANIFEST = "manifest.json"
Point = tuple[str, float, int]


@dataclass(frozen=True)
class Record:
    """The manifest of an output folder; `experiment` is None where it serves the whole study."""

    folder: Path
    stage: str
    experiment: str | None
    round: int
    folds: tuple[int, ...]
    params: Mapping[str, Any]
    group: Mapping[str, Any]
    inputs: Mapping[str, Any]
    key: str

    @property
    def group_key(self) -> str:
        """Return the hash of all settings that define the experiment, whatever its rounds."""
        group = self.group or {"stage": self.stage}
        return hashlib.sha256(json.dumps(group, sort_keys=True).encode()).hexdigest()

    @property
    def place(self) -> str:
        """Return `stage.round-n`: what this folder holds within its experiment."""
        return f"{self.stage}.round-{self.round}" if self.experiment else self.stage

    @property
    def level(self) -> str:
        """Return the prefix of this folder's curves: `dense`, `round-2`, ..."""
        return "dense" if self.experiment == "dense" else f"round-{self.round}"


def from_manifest(folder: Path, manifest: Mapping[str, Any]) -> Record:
    """Return the record of `folder` that `manifest` describes; PruningError if it does not."""
    try:
        return Record(
            folder=folder,
            stage=str(manifest["stage"]),
            experiment=manifest.get("experiment") or None,
            round=int(manifest.get("round") or 0),
            folds=tuple(int(fold) for fold in manifest.get("folds") or ()),
            params=manifest.get("params") or {},
            group=manifest.get("group") or {},
            inputs=manifest.get("inputs") or {},
            key=str(manifest["key"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PruningError(f"{folder / MANIFEST}: not a manifest ({error!r})") from None


def read(folder: Path) -> Record:
    """Return the record of an output folder, from its manifest.json and the folds it holds."""
    record = from_manifest(folder, _json(folder / MANIFEST))
    folds = tuple(fold for fold in record.folds if (folder / f"fold-{fold}").is_dir())
    return replace(record, folds=folds)


def upstream(record: Record, home: Path) -> Iterator[Record]:
    """Yield the records of the folders that `record` was made from, where they are still those."""
    for path, key in record.inputs.items():
        if (home / path / MANIFEST).is_file():
            source = read(home / path)
            if source.key == key:
                yield source


def stale(record: Record, home: Path) -> str:
    """Return the path of an input that has been made anew since, or "" if there is none."""
    for path, key in record.inputs.items():
        if (home / path / MANIFEST).is_file() and read(home / path).key != key:
            return str(path)
    return ""


def hashes(folder: Path) -> dict[str, str]:
    """Return the md5 of every file in `folder` by its relative path, as DVC 3 takes it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _md5(path) for path in files}


def dvc_md5(files: Mapping[str, str]) -> str:
    """Return DVC 3's hash of a directory from the `hashes` of its files: 32 hex digits + ".dir"."""
    listing = [{"md5": files[path], "relpath": path} for path in sorted(files)]
    digest = hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False)
    return digest.hexdigest() + ".dir"


def flat(nested: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Return nested settings as `prefix.dotted.key` -> text, lists as JSON."""
    result: dict[str, str] = {}
    for name, value in nested.items():
        key = f"{prefix}.{name}"
        if isinstance(value, Mapping) and value:
            result |= flat(value, key)
        else:
            result[key] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return result


def facts(folder: Path) -> dict[str, Any]:
    """Return metrics.json of `folder`, empty where there is none."""
    path = folder / "metrics.json"
    return _json(path) if path.is_file() else {}


def numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries of `found` that are numbers, nested ones as `outer/inner`."""
    result: dict[str, float] = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            result |= {f"{name}/{inner}": each for inner, each in numbers(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            result[name] = float(value)
    return result


def summary(measured: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return `name_mean` and, from two folds on, `name_std` (n - 1) of what all folds measured."""
    folds = list(measured)
    result: dict[str, float] = {}
    for name in sorted(set.intersection(*(set(fold) for fold in folds)) if folds else ()):
        values = [fold[name] for fold in folds]
        result[f"{name}_mean"] = statistics.fmean(values)
        if len(values) > 1 and all(map(math.isfinite, values)):
            result[f"{name}_std"] = statistics.stdev(values)
    return result


def rows(path: Path) -> list[dict[str, str]]:
    """Return a CSV file's rows, none where there is no such file."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise PruningError(f"{path}: cannot be read ({error})") from None


def curves(history: Iterable[Mapping[str, Any]], level: str) -> list[Point]:
    """Return the rows of a history.csv as (`level/split_quantity`, value, training step)."""
    points: list[Point] = []
    for row in history:
        try:
            split, step = row["split"], int(row["step"])
            for name in row.keys() - {"step", "epoch", "split"}:
                label = name if name == "learning_rate" else f"{split}_{name}"
                if row[name] not in (None, ""):
                    points.append((f"{level}/{label}", float(row[name]), step))
        except (KeyError, TypeError, ValueError) as error:
            told = f"history.csv of {level}: cannot read the row {dict(row)} ({error!r})"
            raise PruningError(told) from None
    return points


def line(record: Record, found: Mapping[str, Any]) -> str:
    """Return a round's line: round, what it was rewound to, weights kept, percent remaining."""
    kept, weights = found.get("weights_kept"), found.get("weights")
    if kept is None or not weights:
        return ""
    rewound = f", rewound to {found['rewound_to']}" if found.get("rewound_to") else ""
    share = f"{kept:.10g} of {weights:.10g} weights kept, {100 * kept / weights:.2f} % remaining"
    return f"round {record.round}{rewound}: {share}"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PruningError(f"{path}: cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise PruningError(f"{path}: expected an object, found {type(found).__name__}")
    return found


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
