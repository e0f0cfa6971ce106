"""Write the results page, its pictures and tables from the records of all protocols."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.command import application, one_line_errors

if TYPE_CHECKING:
    import pandas as pd

    from stages.records.recorded import Record
    from stages.records.results_page import Compared

Protocols = Annotated[Path, typer.Option(help="The folder of the protocols' folders.")]
Page = Annotated[Path, typer.Option(help="The page to write; pictures go into a folder beside.")]


def results(papers: Protocols = Path("papers"), out: Page = Path("docs/results.md")) -> None:
    """Write the page that sets every recorded protocol beside the published rows."""
    with one_line_errors():
        from stages.literature.published import load

        rows, records = load(), read_all(papers)
        ran, text = compose(records, rows, papers)
        folder = out.with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
        for name, compared in ran.items():
            write(compared, rows, folder / name)
        out.write_text(text, encoding="utf-8")
        print(f"wrote {out}: {len(ran)} of {len(records)} protocols were run")


def compose(
    records: "list[Record]", rows: "pd.DataFrame", papers: Path
) -> "tuple[dict[str, Compared], str]":
    """Return the protocols that were run beside the published rows, by name, and the page."""
    from stages.records import results_counts, results_page

    ran = {each.name: results_page.compare(each, rows) for each in records if each.facts}
    counts = results_counts.section(papers / "counts.csv")
    return ran, results_page.page(records, ran, rows, papers, counts)


def read_all(papers: Path) -> "list[Record]":
    """Return the protocols of a folder by name; refuse a folder without any."""
    from pruning.errors import PruningError
    from stages.records.recorded import read

    folders = sorted(path.parent for path in papers.glob("*/params.yaml"))
    if not folders:
        raise PruningError(f"{papers}: no folder with a params.yaml; give --papers")
    return [read(folder) for folder in folders]


def write(compared: "Compared", rows: "pd.DataFrame", place: Path) -> None:
    """Write the picture and the full table of a protocol, `place` with their suffixes."""
    from stages.literature import beside_report

    compared.table.to_csv(place.with_name(f"{place.name}.csv"), index=False)
    beside_report.draw(compared.mine, rows, place.with_name(f"{place.name}.png"))


app = application(results)

if __name__ == "__main__":
    app()
