"""The results page: what our runs say beside the papers, from the records alone."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.literature import ours
from stages.literature.verdict import RULE
from stages.records import best, claims, results_protocol
from stages.records.recorded import Record
from stages.records.results_words import duration, mean_sd, percent, table

if TYPE_CHECKING:
    import pandas as pd

INTRODUCTION = """\
# Results beside the papers

*Written by `python -m stages.results` from the records in `papers/`; do not edit.*

Each protocol is a folder of `papers/`: its settings, what it departs in from the paper, and the
record of its run. Accuracies are in percent on the test set, drops in points from the own dense
network; `±` is the sample standard deviation over folds or seeds, brackets are 95 % intervals. The
rule of the verdicts is [at the end](#the-rule); *by the numbers* is what it would say of figures
that are barred: second-hand ones, and those that do not measure quite the same. Times are the
clock's, whatever else the machine did."""


@dataclass(frozen=True)
class Compared:
    """A record with our results, all of them beside all rows of its net, and those it answers."""

    record: Record
    mine: "pd.DataFrame"
    table: "pd.DataFrame"
    shown: "pd.DataFrame"


def compare(record: Record, rows: "pd.DataFrame") -> Compared:
    """Set a protocol that was run beside the published rows."""
    assert record.results is not None
    return Compared(record, *ours.compare(record.params, record.results, rows))


def page(
    records: list[Record],
    ran: Mapping[str, Compared],
    rows: "pd.DataFrame",
    home: Path,
    counts: str = "",
) -> str:
    """Return the page; `ran` holds the protocols that were run by name, `counts` a part to add."""
    parts = [
        INTRODUCTION,
        "## At a glance",
        _overview(records, ran, home),
        *_best(ran, rows),
        *(
            results_protocol.section(each.record, each.mine, each.shown, rows, home)
            for each in ran.values()
        ),
        *([counts] if counts else []),
        *_waiting([record for record in records if record.name not in ran]),
        "## The rule",
        RULE,
        *(["### Claims in words", claims.RULE] if _claims(ran, home) else []),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _overview(records: list[Record], ran: Mapping[str, Compared], home: Path) -> str:
    lines = []
    for record in records:
        line = {"protocol": results_protocol.title(record)}
        if record.name in ran:
            compared = ran[record.name]
            line |= {
                "networks": str(len(compared.record.results)),  # type: ignore[arg-type]
                "time": duration(record.facts["seconds"]),
                "published rows": _counted(compared.shown["verdict"]),
                "by the numbers": _counted(_by_numbers(compared.shown)),
                "claims": _counted(_claims({record.name: compared}, home)),
            }
        else:
            line |= {"networks": "not run"}
        lines.append(line)
    return table(lines)


def _by_numbers(shown: "pd.DataFrame") -> list[str]:
    """Return the verdicts of second-hand and otherwise barred figures, were they not barred."""
    barred = shown[(shown["verdict"] == "not comparable") & shown["by_numbers"].ne("")]
    return [str(word) for word in barred["by_numbers"] if word != "not comparable"]


def _counted(words: "list[str] | pd.Series[str]") -> str:
    found = Counter(words)
    return ", ".join(f"{count} {word}" for word, count in sorted(found.items())) or "-"


def _claims(ran: Mapping[str, Compared], home: Path) -> list[str]:
    found = []
    for name, each in ran.items():
        for claim in claims.read(home / name / results_protocol.CLAIMS):
            findings = claims.evaluate(claim, each.record.results)  # type: ignore[arg-type]
            found.append(claims.conclusion(findings))
    return found


def networks(ran: Mapping[str, Compared]) -> "pd.DataFrame":
    """Return all our networks of all records, a line each, with study, round and validation."""
    import pandas as pd

    tables = []
    for name, each in ran.items():
        more = each.record.results[  # type: ignore[index]
            ["experiment", "round", "fold", "sparsity", "validation_accuracy"]
        ]
        keys = ["experiment", "fold", "sparsity"]
        both = each.mine.merge(more.drop_duplicates(keys), on=keys)
        tables.append(both.assign(study=name))
    return pd.concat(tables, ignore_index=True)


def _best(ran: Mapping[str, Compared], rows: "pd.DataFrame") -> list[str]:
    if not ran:
        return []
    found = best.points(networks(ran), rows, dataset="MNIST")
    if not any(point.ours for point in found):
        return []
    return [
        "## Does ours meet or beat every row on MNIST?",
        "\n".join(_met(found, model) for model in dict.fromkeys(each.model for each in found)),
        best.RULE,
        table([_point(point) for point in found]),
    ]


def _met(found: list[best.Point], model: str) -> str:
    """Say for one net how often our best network meets or beats, by sparsity and by row."""
    own = [point for point in found if point.model == model]
    count = Counter(point.verdict for point in own)
    told = ", ".join(f"{count[word]} {word}" for word in best.VERDICTS if count[word])
    met, every = sum(point.met for point in own), sum(point.rows for point in own)
    return (
        f"* {model}: of {every} rows with an accuracy and a share of weights {met} are met or "
        f"beaten. Against the best figure at each of {len(own)} sparsities: {told}."
    )


def _point(point: best.Point) -> dict[str, str]:
    return {
        "net": point.model,
        "sparsity": percent(point.sparsity, digits=5),
        "best published": f"{point.theirs:.2f}",
        "by": point.method,
        "ours": "-" if point.ours is None else mean_sd(point.ours),
        "95 %": "-"
        if point.ours is None or point.ours.n < 2
        else f"[{point.ours.low:.2f}, {point.ours.high:.2f}]",
        "our sparsity": "-" if point.ours is None else percent(point.our_sparsity),
        "our experiment": point.experiment or "-",
        "verdict": f"**{point.verdict}**",
        "rows met": f"{point.met} of {point.rows}",
    }


def _waiting(records: list[Record]) -> list[str]:
    if not records:
        return []
    parts = ["## Not run"]
    for record in records:
        papers = record.params.papers
        device = record.params.training.device
        needs = f" (device {device})" if device != "cpu" else ""
        lines = [f"### {results_protocol.title(record)}", ""]
        lines += [f"As published: {papers.published.strip()}", ""] if papers else []
        lines += [f"Not run{needs}. The command: `{results_protocol.command(record)}`."]
        parts.append("\n".join(lines))
    return parts
