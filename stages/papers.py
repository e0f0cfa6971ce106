"""Print the published rows that match, with what each was read from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pruning.errors import PruningError, unknown

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(add_completion=False, rich_markup_mode=None)

HEADINGS = ("", "method", "net", "sparsity", "of", "dense", "pruned", "sd", "evidence")


@app.command()
def papers(
    dataset: Annotated[str | None, typer.Option(help="MNIST, CIFAR-10, ...")] = None,
    model: Annotated[str | None, typer.Option(help="LeNet-300-100, ResNet-56, ...")] = None,
    method: Annotated[str | None, typer.Option(help="A part of the method's name.")] = None,
    sparsity: Annotated[
        str | None,
        typer.Option(help="Fraction removed: 0.95, 0.9:0.99, 0.9: or :0.5 (ends included)."),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="What was removed: weights, filters, flops, ...")
    ] = None,
    evidence: Annotated[
        str, typer.Option(help="first-hand (read from its own authors) or all.")
    ] = "all",
    layout: Annotated[str, typer.Option("--format", help="table or csv.")] = "table",
    file: Annotated[Path | None, typer.Option(help="Another file of published rows.")] = None,
) -> None:
    """Print the published results that match, each with its source and how strong that is.

    Sparsity is the fraction removed of what the column "of" names; accuracies are in percent, as
    printed. Names match however they are spelt.
    """
    from stages.literature.lookup import search, sparsities
    from stages.literature.published import PUBLISHED, load

    try:
        for name, value, choices in (
            ("evidence", evidence, ("first-hand", "all")),
            ("format", layout, ("table", "csv")),
        ):
            if value not in choices:
                raise unknown(name, value, choices)
        wanted = sparsities(sparsity) if sparsity is not None else None
        named = {"dataset": dataset, "model": model, "method": method, "kind": kind}
        every = search(load(file or PUBLISHED), **named)  # type: ignore[arg-type]
        rows = search(every, sparsity=wanted, first_hand=evidence == "first-hand")
    except PruningError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(rows.to_csv(index=False) if layout == "csv" else table(rows), nl=layout != "csv")
    for remark in remarks(every, rows, ranged=wanted is not None):
        typer.echo(remark, err=True)


def table(rows: "pd.DataFrame") -> str:
    """Lay the rows out, then their sources, each once under the number that the row bears."""
    from tabulate import tabulate  # type: ignore[import-untyped, unused-ignore]

    sources: dict[str, int] = {}
    lines = [_line(row, sources) for row in rows.itertuples()]
    text = tabulate(lines, HEADINGS, disable_numparse=True, colalign=_ALIGN if lines else None)
    listed = [f"[{number}] {source}" for source, number in sources.items()]
    return "\n".join([text, "", *listed]) if listed else text


def remarks(every: "pd.DataFrame", rows: "pd.DataFrame", *, ranged: bool) -> list[str]:
    """Say what a reader of the rows would miss: rows left out, amounts that are not weights."""
    found = [f"{len(rows)} of {len(every)} rows of these names"]
    without = int(every["sparsity"].isna().sum()) if ranged else 0
    if without:
        found.append(f"{without} rows give no amount (mode letters, node counts): left out")
    flops = int((rows["sparsity_kind"] == "flops").sum())
    if flops:
        found.append(f"{flops} rows count FLOPs removed, not weights (column 'of')")
    if not len(rows) and ranged:
        grid = sorted({float(f"{value:.4g}") for value in every["sparsity"].dropna()})
        found.append(f"published sparsities: {', '.join(map(str, grid)) or 'none'}")
    return found


_ALIGN = ("right", "left", "left", "right", "left", "right", "right", "right", "left")


def _line(row: Any, sources: dict[str, int]) -> tuple[str, ...]:
    identity = f"{row.paper} {row.arxiv}".strip()
    note = f" Note: {row.note}" if row.note else ""
    setting = f" Setting: {row.setting}." if row.setting else ""
    number = sources.setdefault(f"{identity}: {row.source}.{setting}{note}", len(sources) + 1)
    return (
        f"[{number}]",
        row.method,
        f"{row.model}, {row.dataset}",
        _amount(row),
        row.sparsity_kind,
        _number(row.baseline_acc),
        _number(row.pruned_acc),
        _number(row.acc_std),
        row.evidence if row.first_hand else f"{row.evidence}, not first-hand",
    )


def _amount(row: Any) -> str:
    if row.sparsity == row.sparsity:
        return f"{row.sparsity:.6g}"
    return f"mode {row.sparsity_or_ratio}" if row.sparsity_or_ratio else "-"


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"


if __name__ == "__main__":
    app()
