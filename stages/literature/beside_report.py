"""The part of a report that sets a study beside the papers, and its files."""

from pathlib import Path
from typing import TYPE_CHECKING

from stages.literature import ours
from stages.literature.beside_views import picture, to_markdown
from stages.literature.verdict import RULE, SELECTIONS

if TYPE_CHECKING:
    import pandas as pd

    from stages.params import Params

TITLE = "Beside the papers"
TABLE, PICTURE = "papers.csv", "papers.png"
SAID_ONCE = ("ours", "net", "chosen by")
"""Columns of the table whose cells are the same in every line of an experiment."""


def write(study: "Params", folds: "pd.DataFrame", folder: Path) -> str:
    """Write the full table and the picture into `folder`; return the report's section."""
    from stages.literature.published import load

    rows = load()
    mine, table, answered = ours.compare(study, folds, rows)
    table.to_csv(folder / TABLE, index=False)
    draw(mine, rows, folder / PICTURE)
    return "\n\n".join(
        [
            f"## {TITLE}",
            selection(mine),
            tables(answered),
            f"All {len(table)} pairs of an experiment and a published result of a net of this "
            f"name, comparable or not: `{TABLE}`.",
            f"![ours and the published results]({PICTURE})",
            "### The rule",
            RULE,
        ]
    )


def selection(mine: "pd.DataFrame") -> str:
    """Say by what each network of ours was chosen."""
    chosen = {name: sorted(set(group["experiment"])) for name, group in mine.groupby("selection")}
    told = [
        SELECTIONS[str(key)] + (f" ({', '.join(names)})" if len(chosen) > 1 else "")
        for key, names in chosen.items()
    ]
    return (
        f"Whatever was chosen was chosen on validation data: {'; '.join(told)}. The test set was "
        "read once for each network, by the evaluate stage."
    )


def tables(answered: "pd.DataFrame", level: int = 3) -> str:
    """Return the lines that each experiment answers, a table an experiment under a heading."""
    parts = []
    for name, lines in answered.groupby("experiment", sort=False):
        method = lines["our_method"].iloc[0]
        told = f" ({method})" if method != name else ""
        parts += [f"{'#' * level} {name}{told}", to_markdown(lines, without=SAID_ONCE)]
    return "\n\n".join(part.strip() for part in parts) or "No published result within reach."


def draw(mine: "pd.DataFrame", rows: "pd.DataFrame", path: Path) -> None:
    """Write the picture of ours and the published results; the same results give the same bytes."""
    figure = picture(mine, rows)
    figure.savefig(path, dpi=120, metadata={"Software": None})
