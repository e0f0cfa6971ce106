"""Forwards of an experiment's networks, timed side by side in one process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruning.facts import read_json
from pruning.latency import Call, Latency, compare, forward
from pruning.network import load
from pruning.programs import onnx_call, program, write_onnx
from stages.files import DENSE, exported, fold_of, result
from stages.fold.shrunk import ONNX, shrunk
from stages.params import Params
from stages.params.export_params import Exporting
from stages.reporting.handed_on import Place

COLUMNS = (
    *("network", "round", "sparsity", "test_accuracy", "batch", "threads"),
    *("median_ms", "low_ms", "high_ms", "calls", "warmup"),
)

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Candidate:
    """A network to be timed, with what is known of it: a module, or an ONNX file."""

    name: str
    round: int
    facts: Mapping[str, float]
    shape: tuple[int, ...]
    model: nn.Module | None = None
    onnx: Path | None = None

    def call(self, batch: Tensor, threads: int) -> Call:
        """Return one forward of the batch."""
        if self.model is not None:
            return forward(self.model, batch)
        assert self.onnx is not None
        return partial(onnx_call(self.onnx, threads=threads), batch)


def candidates(study: Params, place: Place, scratch: Path) -> list[Candidate]:
    """Return the networks: dense, the exported one in all its forms, and every round's shrunk.

    Where there is an ONNX file, the dense network is made one in `scratch` too: what the runtime
    alone gains is then told from what pruning gains.
    """
    dense = load(fold_of(DENSE, place.fold), foreign=True)
    shape, known = dense.input_shape, _facts("dense", 0, place.fold)
    found = [Candidate("dense", 0, known, shape, dense.model)]
    onnx = exported(place.experiment) / ONNX
    if onnx.is_file():
        path = scratch / ONNX
        write_onnx(program(dense.model, torch.zeros(2, *shape)), path)
        found.append(Candidate("dense ONNX", 0, known, shape, onnx=path))
    groups = None
    for entry in study.rounds:
        each = Place(place.experiment, entry.n, place.fold)
        pair = shrunk(each.network, study.exporting.round_to, groups)
        groups = pair.groups
        of_round = entry.n, _facts(place.experiment, entry.n, place.fold), shape
        if entry.n == place.round:
            found.append(Candidate("masked", *of_round, pair.masked.model))
            if onnx.is_file():
                found.append(Candidate("ONNX", *of_round, onnx=onnx))
        found.append(Candidate("shrunk", *of_round, pair.shrunk.model))
    return found


def measure(candidates: Sequence[Candidate], settings: Exporting) -> list[Row]:
    """Return a row for each network and batch size: its facts, median and quartiles in ms.

    Networks of one batch size take turns, after five forwards each that warm up.
    """
    rows: list[Row] = []
    for size in settings.batches:
        generator = torch.Generator().manual_seed(0)
        batch = torch.randn(size, *candidates[0].shape, generator=generator)
        calls = {str(i): each.call(batch, settings.threads) for i, each in enumerate(candidates)}
        found = compare(calls, repeats=settings.repeats, threads=settings.threads)
        rows += [_row(each, size, found[str(i)]) for i, each in enumerate(candidates)]
    return rows


def facts(rows: Sequence[Row]) -> dict[str, float]:
    """Return the medians and speed-ups of the exported network, by form and batch size."""
    table = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    handed_on = next(row["round"] for row in table if row["network"] == "masked")
    result: dict[str, float] = {"threads": table[0]["threads"]}
    for row in table:
        if row["round"] not in (0, handed_on):
            continue
        name = f"{row['network'].lower().replace(' ', '_')}_batch_{row['batch']}"
        dense = next(
            each["median_ms"]
            for each in table
            if each["network"] == "dense" and each["batch"] == row["batch"]
        )
        result[f"latency_ms_{name}"] = row["median_ms"]
        result[f"speedup_{name}"] = dense / row["median_ms"]
    return result


def _row(candidate: Candidate, size: int, found: Latency) -> Row:
    times = (1000 * found.median, 1000 * found.low, 1000 * found.high)
    known = (candidate.facts["sparsity"], candidate.facts["test_accuracy"])
    counts = (found.calls, found.warmup)
    return (candidate.name, candidate.round, *known, size, found.threads, *times, *counts)


def _facts(experiment: str, n: int, fold: int) -> dict[str, float]:
    return dict(read_json(fold_of(result(experiment, n), fold) / "metrics.json"))
