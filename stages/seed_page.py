"""Write the page on the seed project's tables: its figures, those it cites, the true ones, ours."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pruning.errors import PruningError
from stages.literature.seed_tables import ENTRIES, INTRODUCTION, PLOTS, Entry

if TYPE_CHECKING:
    import pandas as pd

    from stages.records.recorded import Record

app = typer.Typer(add_completion=False, rich_markup_mode=None)

PAGE = Path("docs/seed.md")


@app.command()
def seed_page(
    papers: Annotated[Path, typer.Option(help="The folder of the protocols.")] = Path("papers"),
    out: Annotated[Path, typer.Option(help="The page to write.")] = PAGE,
) -> None:
    """Write the page that sets the seed project's tables beside the papers' figures and ours."""
    from stages.literature.published import load
    from stages.results import read_all

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(load(), answers(read_all(papers))), encoding="utf-8")
    except (PruningError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(f"wrote {out}")


def page(rows: "pd.DataFrame", results: "pd.DataFrame | None" = None) -> str:
    """Return the page for published rows and our results as `answers` gives them."""
    seed = rows[rows["paper"].str.startswith("seed project")]
    parts = [
        INTRODUCTION,
        "## Its comparison with the papers\n",
        _table([_compared(entry, rows, seed, results) for entry in ENTRIES]),
        "## Its ResNet-50\n",
        "It cites nothing here. The table starts from 92.67, the sensitivity line from 93.86.\n",
        _table([*(_resnet50(e, seed, results) for e in ENTRIES), _sensitivity(seed, results)]),
        "## Its plots\n",
        _disagreement(seed),
        *(part for source, title in PLOTS for part in (f"### {title}\n", _plot(seed, source))),
    ]
    return "\n".join(parts).rstrip() + "\n"


def answers(records: "list[Record]") -> "pd.DataFrame | None":
    """Return our results that answer a line of the tables, `experiment` being that line's name."""
    import pandas as pd

    from stages.literature import ours

    found = []
    for record in records:
        lines = record.params.papers.seed if record.params.papers else {}
        if record.results is not None and lines:
            mine = ours.results(record.params, record.results)
            mine = mine[mine["experiment"].isin(list(lines))]
            found.append(mine.assign(experiment=mine["experiment"].map(lines)))
    return pd.concat(found, ignore_index=True) if found else None


def _find(rows: "pd.DataFrame", **wanted: str) -> Any:
    """Return the one row whose amount and net equal, and other cells begin with, what is wanted."""
    for name, value in wanted.items():
        exact = name in ("sparsity_or_ratio", "model")
        rows = rows[rows[name] == value if exact else rows[name].str.startswith(value)]
    if len(rows) != 1:
        raise PruningError(f"published rows: {len(rows)} match {wanted}; needed: exactly 1")
    return rows.iloc[0]


def _compared(
    entry: Entry, rows: "pd.DataFrame", seed: "pd.DataFrame", results: "pd.DataFrame | None"
) -> dict[str, str]:
    key = {"sparsity_or_ratio": entry.amount, "setting": entry.how}
    own = _find(seed, method=f"SEED Adoption: {entry.method}", **key)
    cited = _find(seed, method=f"SEED Original(as cited): {entry.method}", **key)
    papers = rows[~rows["paper"].str.startswith("seed project")]
    true = _find(papers, **entry.truth)
    return {
        "method": f"{entry.method} ({entry.how})",
        "amount": _amount(entry),
        "net": own["model"],
        "seed": _figure(own),
        "it cites": _figure(cited),
        "the paper": f"{entry.told.format(_figure(true))} [{true['evidence']}]",
        "ours": _ours(results, entry.name),
        "line": f"`{entry.name}`",
        "remark": entry.remark,
    }


def _resnet50(entry: Entry, seed: "pd.DataFrame", results: "pd.DataFrame | None") -> dict[str, str]:
    key = {"sparsity_or_ratio": entry.amount, "setting": entry.how}
    row = _find(seed, method=f"SEED: {entry.method}", model="ResNet-50", **key)
    return _line50(f"{entry.method} ({entry.how})", _amount(entry), row, results, entry.name)


def _sensitivity(seed: "pd.DataFrame", results: "pd.DataFrame | None") -> dict[str, str]:
    row = _find(seed, method="SEED: Sensitivity pruner", model="ResNet-50")
    amount = f"{row['sparsity_or_ratio']} %"
    return _line50("Sensitivity, threshold s x sd", amount, row, results, "sensitivity")


def _line50(
    method: str, amount: str, row: Any, results: "pd.DataFrame | None", name: str
) -> dict[str, str]:
    name = f"resnet50-{name}"
    return {
        "method": method,
        "amount": amount,
        "seed": _figure(row),
        "ours": _ours(results, name),
        "line": f"`{name}`",
    }


def _amount(entry: Entry) -> str:
    return f"mode {entry.amount}" if entry.amount in "AB" else f"{entry.amount} %"


def _figure(row: Any) -> str:
    sd = "" if math.isnan(row["acc_std"]) else f" ± {row['acc_std']:.2f}"
    if math.isnan(row["baseline_acc"]):
        return f"{row['pruned_acc']:.2f}{sd}"
    drop = row["baseline_acc"] - row["pruned_acc"]
    return f"{row['baseline_acc']:.2f} -> {row['pruned_acc']:.2f}{sd} ({drop:.2f})"


def _ours(results: "pd.DataFrame | None", line: str) -> str:
    """Word our result for a line, at the highest sparsity of its experiment, or `-`."""
    from stages.literature.verdict import summarise

    mine = None if results is None else results[results["experiment"] == line]
    if mine is None or not len(mine):
        return "-"
    last = mine.sort_values("sparsity", kind="stable").groupby("fold").tail(1)
    pruned = summarise(list(100 * last["accuracy"]))
    dense = summarise(list(100 * last["dense_accuracy"]))
    sd = "" if math.isnan(pruned.sd) else f" ± {pruned.sd:.2f}"
    drop = dense.mean - pruned.mean
    return f"{dense.mean:.2f} -> {pruned.mean:.2f}{sd} ({drop:.2f}), n = {pruned.n}"


def _disagreement(seed: "pd.DataFrame") -> str:
    first, second = (
        seed[seed["source"].str.startswith(source)].set_index(["setting", "sparsity"])["pruned_acc"]
        for source, _ in PLOTS[:2]
    )
    apart = (first - second).abs().dropna()
    how, sparsity = cast(tuple[str, float], apart.idxmax())
    return (
        "Read off the pictures by pixel position, to 0.01 - 0.2 points. The first two show the "
        f"same experiment\nand disagree by up to {apart.max():.2f} points ({how} at "
        f"{100 * sparsity:.0f} %). Accuracy by sparsity:\n"
    )


def _plot(seed: "pd.DataFrame", source: str) -> str:
    points = seed[seed["source"].str.startswith(f"{source} ")]
    wide = points.pivot(index="sparsity", columns="setting", values="pruned_acc").sort_index()
    return _table(
        [
            {"sparsity": f"{100 * cast(float, sparsity):.0f} %"}
            | {str(name): "-" if math.isnan(cell) else f"{cell:.2f}" for name, cell in line.items()}
            for sparsity, line in wide.iterrows()
        ]
    )


def _table(lines: list[dict[str, str]]) -> str:
    import pandas as pd

    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True) + "\n"


if __name__ == "__main__":
    app()
