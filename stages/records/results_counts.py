"""The part of the results page on counts that need no training."""

from pathlib import Path

from stages.records.results_words import table


def section(path: Path) -> str:
    """Return the part made from the table that `stages.counts` writes, "" where there is none."""
    import pandas as pd

    from pruning.errors import PruningError
    from stages.counts import COLUMNS

    if not path.is_file():
        return ""
    found = pd.read_csv(path)
    if tuple(found) != COLUMNS:
        raise PruningError(f"{path}: columns {', '.join(found)}; needed: {', '.join(COLUMNS)}")
    lines = [
        {
            "net": str(row["model"]),
            "method": f"{row['method']}; {row['paper']}",
            "of": str(row["quantity"]),
            "published": str(row["published"]),
            "ours": f"{row['dense']:,} -> {row['ours']:,} ({row['left']:g} %)",
            "agrees": "yes" if row["agrees"] else "**no**",
        }
        for row in found.to_dict("records")
    ]
    return "\n\n".join(
        [
            "## Counts that need no training",
            "Counted by `python -m stages.counts`: parameters and multiply-adds of Li et al.'s "
            "networks once shrunk, and of SNIP's the weights that a global mask leaves. A share "
            "agrees to 0.1 points, a count to 1 %, as precisely as they are printed: "
            f"{int(found['agrees'].sum())} of {len(found)} agree. The paper's 10.0M of WRN-16-8 "
            "does not fit its own 548k at 5 %; ours does.",
            table(lines),
        ]
    )
