"""One protocol's section of the results page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.literature import beside_report
from stages.literature.lookup import bracket
from stages.literature.verdict import summarise
from stages.params.protocol import Protocol
from stages.records import claims, results_claims
from stages.records.recorded import FOLDER, RESULTS, RUNS, Record
from stages.records.results_words import duration, mean_sd, percent, table

if TYPE_CHECKING:
    import pandas as pd

CLAIMS = "claims.yaml"


def section(
    record: Record, mine: "pd.DataFrame", shown: "pd.DataFrame", rows: "pd.DataFrame", home: Path
) -> str:
    """Return the section of a protocol that was run.

    `mine` and `shown` come from `ours.compare`: our results and the lines that they answer; `home`
    is the folder of the protocols' folders.
    """
    papers = record.params.papers or Protocol()
    parts = [
        f"## {title(record)}",
        _recipe(papers),
        _run(record),
        beside_report.selection(mine),
        "### Beside the published rows" if len(shown) else "",
        beside_report.tables(shown, level=4) if len(shown) else "",
        f"![ours and the published results](results/{record.name}.png)",
        f"All pairs with a published result of a net of this name: "
        f"[results/{record.name}.csv](results/{record.name}.csv).",
        *results_claims.in_words(claims.read(home / record.name / CLAIMS), record),
        *results_claims.ranks(papers, record, rows),
        *results_claims.iterative(record),
        "### All our results",
        _accuracies(record),
        _runs(record),
    ]
    return "\n\n".join(part for part in parts if part)


def title(record: Record) -> str:
    """Return the protocol's title."""
    papers = record.params.papers
    return (papers.title if papers else None) or record.name


def command(record: Record) -> str:
    """Return the commands that run the protocol and write its record."""
    return f"cd papers/{record.name} && python -m stages.run && python -m stages.record"


def _recipe(papers: Protocol) -> str:
    lines = [f"As published: {papers.published.strip()}"] if papers.published else []
    lines += ["", "Ours departs from it:", ""] if papers.departures else []
    lines += [f"* {' '.join(departure.split())}" for departure in papers.departures]
    return "\n".join(lines)


def _run(record: Record) -> str:
    params, facts = record.params, record.facts
    split, machine = params.cross_validation, facts["machine"]
    each = f"{split.folds} folds" if split.folds > 1 else "one split"
    repeats = f", {split.repeats} repeats with other seeds" if split.repeats > 1 else ""
    took = duration(facts["seconds"])
    changed = f" (with changes in {len(facts['changed'])} files)" if facts["changed"] else ""
    old = " **The settings in the file have changed since.**" if record.changed else ""
    return (
        f"Run by `{command(record)}` ([its settings](../papers/{record.name}/params.yaml)): "
        f"{len(record.results)} networks, {each}{repeats}, {took} on {machine['cores']} cores of "  # type: ignore[arg-type]
        f"{machine['processor']} (device {machine['device']}, torch {machine['torch']}). Code at "
        f"`{facts['commit'][:12] or 'no commit'}`{changed}, reports `{facts['reports'][:12]}`, "
        f"dvc.lock `{facts['dvc_lock'][:12]}`.{old}"
    )


def _accuracies(record: Record) -> str:
    """Return mean and sd of test accuracy, a line a round, a column an experiment.

    Whoever is not at the sparsity of the round says at which.
    """
    results: Any = record.results
    lines = []
    for n, group in results.groupby("round"):
        wanted = group["target_sparsity"].dropna()
        sparsity = float(wanted.iloc[0]) if len(wanted) else group["sparsity"].mean()
        line = {"round": str(n), "sparsity": percent(sparsity)}
        for name, mine in group.groupby("experiment", sort=False):
            own = mine["sparsity"].mean()
            at = "" if bracket([own], sparsity) else f" at {percent(own)}"
            line[str(name)] = mean_sd(summarise(list(100 * mine["test_accuracy"]))) + at
        lines.append(line)
    dense, *rest = lines
    told = f"Dense: {dense.get('dense', '-')} %. Test accuracy in %, mean ± sd:"
    return f"{told}\n\n{table(rest)}" if rest else told


def _runs(record: Record) -> str:
    here = f"../papers/{record.name}/{FOLDER}"
    lines = [
        f"A line a network: [{RESULTS}]({here}/{RESULTS})"
        + (f"; every MLflow run: [{RUNS}]({here}/{RUNS})." if record.runs else ".")
    ]
    if not record.runs:
        lines.append("Tracking was off where this was recorded, so no MLflow run is named.")
    own = [f"{name} `{run}`" for name, fold, run in record.runs if not fold]
    if own:
        lines.append(f"MLflow runs of the experiments: {', '.join(own)}.")
    return "\n".join(lines)
