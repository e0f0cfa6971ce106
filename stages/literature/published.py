"""Other people's results: 911 published rows, each cell checked as it is read."""

import csv
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruning.errors import PruningError, unknown

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = Path(__file__).resolve().parents[2] / "data" / "paper_results.csv"
"""The rows this repository ships."""

EVIDENCE = {
    "author-raw-data": "the authors' own arrays; mean and sample sd computed from them",
    "author-repo": "the authors' repository: README, log or settings file",
    "author-org": "a page of the authors' organisation",
    "primary-text": "the paper's text",
    "primary-pdf": "the paper's PDF",
    "primary-picture": "a picture of the paper's table",
    "secondary": "quoted by another paper or repository",
    "third-party-repro": "somebody else's re-run",
    "third-party": "somebody else's implementation",
    "derived": "computed from two printed numbers",
    "seed-image": "a table picture of the seed project",
    "seed-readme": "a table in the seed project's README",
    "own-digitisation": "read off the seed project's plots by pixel position",
}
"""Where a number was read, strongest first; the file may add a qualifier after the name."""

KINDS = ("weights", "params", "filters", "channels", "neurons", "flops", "none")
"""What `sparsity` counts; `flops` is work saved, which is not a share of weights."""

OWN_METHODS = {
    "arXiv:1705.07565": ("L-OBS",),
    "arXiv:1810.02340": ("SNIP",),
    "arXiv:1702.04008": ("Soft Weight-Sharing",),
    "arXiv:1701.05369": ("Sparse VD",),
    "arXiv:2301.12900": ("DepGraph", "Group-"),
    "arXiv:2012.09243": ("GReg",),
}
"""Papers whose tables quote competitors: how the names of their own methods begin."""

SEED = "seed project"


@dataclass(frozen=True)
class Column:
    """One column of the file: its name, what it may hold, and the test for it."""

    name: str
    allowed: str
    holds: Callable[[str], bool]
    number: bool = False


def _text(name: str) -> Column:
    return Column(name, "text, not empty", lambda cell: bool(cell.strip()))


def _number(name: str, low: float, high: float) -> Column:
    def holds(cell: str) -> bool:
        return not cell or (bool(_DECIMAL.fullmatch(cell)) and low <= float(cell) <= high)

    return Column(name, f"empty or a decimal from {low:g} to {high:g}", holds, number=True)


def _pattern(name: str, allowed: str, pattern: str) -> Column:
    compiled = re.compile(pattern)
    return Column(name, allowed, lambda cell: bool(compiled.fullmatch(cell)))


def _free(name: str) -> Column:
    return Column(name, "text", lambda _: True)


_DECIMAL = re.compile(r"\d+(\.\d+)?")
_FAMILIES = sorted(EVIDENCE, key=len, reverse=True)
_FAMILY = re.compile(f"({'|'.join(_FAMILIES)})(?=$|[ :(])")

SCHEMA = (
    _text("method"),
    _text("paper"),
    _pattern("arxiv", "empty or arXiv:NNNN.NNNNN", r"(arXiv:\d{4}\.\d{5})?"),
    Column(
        "year", "a year from 1980 to 2100", lambda c: c.isdecimal() and 1980 <= int(c) <= 2100, True
    ),
    _text("source"),
    _text("dataset"),
    _text("model"),
    _pattern(
        "sparsity_or_ratio",
        "empty, a percentage from 0 to below 100, or the seed's mode A or B",
        r"(\d{1,2}(\.\d+)?|A|B)?",
    ),
    Column("sparsity_kind", ", ".join(KINDS), lambda cell: cell in KINDS),
    _free("setting"),
    _number("baseline_acc", 0, 100),
    _number("pruned_acc", 0, 100),
    _number("acc_std", 0, 100),
    _number("params_remaining", 0, 100),
    _number("flops_remaining", 0, 100),
    Column("evidence", ", ".join(EVIDENCE), lambda cell: bool(_FAMILY.match(cell))),
    _free("note"),
)
"""The file's columns, in its order."""


def load(path: Path = PUBLISHED) -> "pd.DataFrame":
    """Read the published rows, refusing the file at its first bad cell.

    Accuracies, their sd and what remains stay in percent, as printed. Added: `sparsity` (fraction
    removed of what `sparsity_kind` names; missing where the file gives none or a mode letter),
    `family` (the evidence without its qualifier), `first_hand` (read from its own authors) and
    `line` (in the file).
    """
    import pandas as pd

    lines, cells = _read(path)
    frame = pd.DataFrame(cells, columns=[column.name for column in SCHEMA], dtype=str)
    for column in SCHEMA:
        _check(path, lines, frame, column)
    _check_modes(path, lines, frame)
    frame["sparsity"] = [_fraction(cell) for cell in frame["sparsity_or_ratio"]]
    for column in SCHEMA:
        if column.number:
            frame[column.name] = pd.to_numeric(frame[column.name])
    frame["family"] = [family(cell) for cell in frame["evidence"]]
    frame["first_hand"] = [_first_hand(row) for row in frame.itertuples()]
    frame["line"] = lines
    return frame


def family(evidence: str) -> str:
    """Return the name in `EVIDENCE` that an evidence cell begins with.

    >>> family("primary-text(secondary quote)"), family("derived: 93.65 - (-0.12)")
    ('primary-text', 'derived')
    """
    match = _FAMILY.match(evidence)
    if match is None:
        raise unknown("evidence", evidence, EVIDENCE)
    return match[1]


def _read(path: Path) -> tuple[list[int], list[list[str]]]:
    names = [column.name for column in SCHEMA]
    lines, cells = [], []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if header != names:
                raise PruningError(f"{path}, line 1: columns {header}; needed: {', '.join(names)}")
            for row in reader:
                if len(row) != len(names):
                    raise PruningError(
                        f"{path}, line {reader.line_num}: {len(row)} cells {row[:3]}...; "
                        f"needed: {len(names)}"
                    )
                lines.append(reader.line_num)
                cells.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PruningError(f"{path}: cannot be read as CSV: {error}") from error
    return lines, cells


def _check(path: Path, lines: list[int], frame: "pd.DataFrame", column: Column) -> None:
    for line, cell in zip(lines, frame[column.name], strict=True):
        if not column.holds(cell):
            raise PruningError(
                f"{path}, line {line}, column {column.name}: {cell!r}; allowed: {column.allowed}"
            )


def _check_modes(path: Path, lines: list[int], frame: "pd.DataFrame") -> None:
    letters = frame["sparsity_or_ratio"].isin(["A", "B"])
    stray = letters & ~frame["paper"].str.startswith(SEED)
    for index in frame.index[stray]:
        cell = frame.loc[index, "sparsity_or_ratio"]
        raise PruningError(
            f"{path}, line {lines[index]}, column sparsity_or_ratio: {cell!r}; "
            "allowed: a percentage (mode letters belong to the seed project's rows)"
        )


def _fraction(cell: str) -> float:
    """Turn a percentage into the fraction a reader would type: 98.2 becomes exactly 0.982."""
    return float(Decimal(cell) / 100) if _DECIMAL.fullmatch(cell) else math.nan


def _first_hand(row: Any) -> bool:
    own = OWN_METHODS.get(row.arxiv, ("",))
    return (
        row.family.startswith(("author-", "primary-"))
        and "secondary" not in row.evidence
        and " as cited" not in row.method
        and row.method.startswith(own)
    )
