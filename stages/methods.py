"""List every choice of every axis: its one-line meaning, its source, its settings."""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.command import application, one_line_errors

if TYPE_CHECKING:
    from pruning.catalogue import Entry

CATALOGUED = {
    "criterion": "how much is each piece worth?",
    "allocation": "who pays for the budget?",
    "compensation": "what do the kept weights do when others go?",
    "schedule": "how does the sparsity rise, over rounds or over training?",
    "during": "what happens to the masks while the network trains?",
    "initialization": "what are fresh weights?",
    "learning rate": "how does the learning rate move?",
    "model": "which network?",
}
"""The axes whose choices are functions, with the question that each answers."""

GRANULARITIES: Mapping[str, str] = {
    "weight": "Each weight alone.",
    "vector": "A row of a kernel (Mao et al. 2017).",
    "column": "A column of a kernel.",
    "kernel": "The kernel of one input in one filter (Mao et al. 2017).",
    "filter": "All that makes one output: filter, neuron or row of a gate (Li et al. 2017).",
    "channel": "All that reads one input.",
    "2:4": "2 of each 4 neighbouring inputs stay; so N:M for any two numbers (Mishra et al. 2021).",
}
REDUCTIONS: Mapping[str, str] = {
    "sum": "The sum of a piece's scores; of magnitude, its L1 norm.",
    "mean": "Their mean, so that pieces of different sizes compare.",
    "max": "The largest.",
}
REWINDING: Mapping[str, str] = {
    "init": "The initialisation (Frankle & Carbin 2019).",
    "step: k": "Training step k (Frankle et al. 2019); snapshots.steps must hold it.",
    "epoch: k": "The end of epoch k; snapshots.epochs must hold it.",
    "best": "The epoch of the best validation accuracy.",
    "final": "The trained network.",
}
WEIGHTS: Mapping[str, str] = {
    "final": "The weights that were pruned (fine-tuning).",
    "rewound": "Those of the rewind point, pruned ones zero.",
    "reinitialised": "Fresh ones by finetune.initialization (Frankle & Carbin 2019, the control).",
}
RESUME: Mapping[str, str] = {
    "end": "The last rate of training, or finetune.learning_rate, for finetune.epochs.",
    "rewound": "Where it stood at the rewind point (Renda et al. 2020).",
    "start": "The whole schedule once more.",
}
NAMED: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("granularity", "what is a piece?"): GRANULARITIES,
    ("reduce", "how do a piece's scores become its score?"): REDUCTIONS,
    ("rewind", "what does rewound mean?"): REWINDING,
    ("weights", "which weights does recovery start from?"): WEIGHTS,
    ("resume", "where does the learning-rate schedule resume?"): RESUME,
}
"""The axes whose choices are names in params.yaml, each with its meaning."""

Axis = Annotated[str | None, typer.Option(help="Only this axis.")]


def methods(axis: Axis = None) -> None:
    """List every choice of every axis with its meaning, its source and its settings."""
    with one_line_errors():
        try:
            print("\n".join(lines(axis)), flush=True)
        except BrokenPipeError:  # a reader such as `head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def lines(axis: str | None = None) -> list[str]:
    """Return the list; refuse an axis that there is not."""
    from pruning.errors import unknown

    known = [*CATALOGUED, *(name for name, _ in NAMED), "trait", "preset"]
    if axis is not None and axis not in known:
        raise unknown("axis", axis, known)
    return [line for name, part in _parts() if axis in (None, name) for line in [*part, ""]]


def _parts() -> Iterator[tuple[str, list[str]]]:
    """Yield each axis with its lines."""
    from pruning import catalogue
    from pruning.presets import PRESETS
    from pruning.traits import DURING

    for axis, question in CATALOGUED.items():
        entries = catalogue.entries(axis).items()
        found = [line for name, entry in entries for line in _entry(name, entry)]
        yield axis, [f"{axis}: {question}", *found, "  or package.module:function"]
    for (axis, question), choices in NAMED.items():
        yield axis, [f"{axis}: {question}", *(f"  {n}  {text}" for n, text in choices.items())]
    yield "trait", ["trait: what holds of a choice?", *(f"  {n}  {t}" for n, t in DURING.items())]
    presets = [f"  {name}  {_row(row)}" for name, row in PRESETS.items()]
    yield "preset", ["preset: which published row of `prune`?", *presets]


def _entry(name: str, entry: "Entry") -> list[str]:
    """Return a choice's lines: name and meaning, then source and settings where there are any."""
    found = [f"  {name}  {entry.meaning}"]
    if entry.source:
        found.append(f"      source: {entry.source}")
    if entry.traits:
        found.append(f"      traits: {', '.join(sorted(entry.traits))}")
    if entry.settings:
        given = ", ".join(f"{key}: {_shown(value)}" for key, value in entry.settings.items())
        found.append(f"      settings: {given}")
    return found


def _shown(value: Any) -> str:
    if value is ...:
        return "must be given"
    if value is None:
        return "unset"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _row(row: Mapping[str, Any]) -> str:
    shown = {**row, "allocation": row["allocation"]["name"]}
    return ", ".join(f"{key}: {value}" for key, value in shown.items())


app = application(methods)

if __name__ == "__main__":
    app()
