"""Write the record of a finished study: its results, runs, time and machine, for the repository."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.command import PARAMS, ParamsFile, application, one_line_errors

if TYPE_CHECKING:
    import pandas as pd

    from stages.params import Params
    from stages.tracking.listing import Run

PAUSE = 3600
"""Seconds in which nothing was finished from which on a study is taken to have rested."""

Out = Annotated[Path, typer.Option(help="The folder to write.")]


def record(params: ParamsFile = PARAMS, out: Out = Path("record")) -> None:
    """Write record/ from the finished study of this folder, for `stages.results` to show."""
    with one_line_errors():
        from pruning.facts import write_json
        from pruning.folders import whole
        from stages.params import read
        from stages.records import recorded

        study = read(params)
        facts = _facts(study)
        runs = _runs(study)
        with whole(out) as folder:
            (folder / recorded.PARAMS).write_bytes(params.read_bytes())
            _results(study).to_csv(folder / recorded.RESULTS, index=False, lineterminator="\n")
            _write_runs(runs, folder / recorded.RUNS)
            write_json(folder / recorded.FACTS, {**facts, "seconds": _seconds(runs)})
        print(f"wrote {out}: {len(study.experiments)} experiments, {len(runs)} MLflow runs")


def _facts(study: "Params") -> dict[str, Any]:
    """Say what was run and where; refuse reports that are not those of the present results."""
    from pruning.errors import PruningError
    from stages.files import REPORTS
    from stages.tracking import records

    home = Path.cwd()
    if source := records.stale(records.read(home / REPORTS), home):
        raise PruningError(f"{source} is newer than {REPORTS}; run `dvc repro` first")
    lock, digest = Path("dvc.lock"), records.dvc_md5(records.hashes(REPORTS))
    if not lock.is_file() or digest not in lock.read_text(encoding="utf-8"):
        raise PruningError(f"{REPORTS} are not what dvc.lock holds; run `dvc repro` first")
    code = Path(study.code)
    changed = _git(code, "status", "--porcelain", "--", "pruning", "stages")
    return {
        "study": study.study,
        "commit": _git(code, "rev-parse", "HEAD"),
        "changed": sorted(line[3:] for line in changed.splitlines()),
        "dvc_lock": hashlib.md5(lock.read_bytes(), usedforsecurity=False).hexdigest(),
        "reports": digest,
        "machine": _machine(study),
    }


def _results(study: "Params") -> "pd.DataFrame":
    from stages.records.recorded import COLUMNS, COUNTS
    from stages.reporting import summary

    found = summary.collect(study)
    found["seed"] = study.cross_validation.seed + found["fold"]
    found["lowest_loss_step"] = [_lowest(row) for row in found.to_dict("records")]
    found = found[[name for name in COLUMNS if name in found]]
    return found.astype({name: "Int64" for name in COUNTS if name in found})


def _lowest(row: dict[Any, Any]) -> int | None:
    """Return the step of the lowest validation loss of a network, None without its history."""
    import pandas as pd

    from stages.files import DENSE, fold_of, tuned

    dense = row["experiment"] == "dense"
    folder = DENSE if dense else tuned(str(row["experiment"]), int(row["round"]))
    path = fold_of(folder, int(row["fold"])) / "history.csv"
    if not path.is_file():
        return None
    history = pd.read_csv(path)
    losses = history[history["split"] == "validation"].set_index("step")["loss"].dropna()
    return int(losses.idxmin()) if len(losses) else None


def _runs(study: "Params") -> "list[Run]":
    from stages.environment import TRACKING, is_off
    from stages.files import result

    if not study.tracking or is_off(TRACKING):
        return []
    from stages.tracking import listing

    folders = [result("dense", 0), *(result(name, 1) for name in study.experiments)]
    return listing.runs(Path.cwd(), study.study, folders)


def _write_runs(runs: "list[Run]", path: Path) -> None:
    from stages.files import write_table
    from stages.records.recorded import RUN_COLUMNS

    write_table(path, RUN_COLUMNS, [(run.experiment, run.fold, run.run_id) for run in runs])


def _seconds(runs: "list[Run]") -> int:
    """Return how long the study took by the times of its outputs and of its runs."""
    from stages.files import REPORTS

    folders = [Path("work"), Path("results"), REPORTS]
    # Every file: folds are written one by one, and a stage of theirs may take hours.
    written = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    times = [time for run in runs for time in run.times]
    return round(active([*times, *(path.stat().st_mtime for path in written)]))


def active(times: Iterable[float]) -> float:
    """Return the seconds between the first and the last of `times` without the long pauses.

    >>> active([0, 100, 3200, 7000, 7010])
    3210
    """
    ordered = sorted(times)
    gaps = [after - before for before, after in pairwise(ordered)]
    return sum(gap for gap in gaps if gap <= PAUSE)


def _machine(study: "Params") -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "device": _device(study.training.device),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def _device(name: str) -> str:
    if not name.startswith("cuda"):
        return name
    import torch

    return torch.cuda.get_device_name(name)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(code: Path, *arguments: str) -> str:
    """Return what git says of the code, or nothing outside a repository."""
    done = subprocess.run(["git", "-C", code, *arguments], capture_output=True, text=True)
    return done.stdout.strip("\n") if done.returncode == 0 else ""


app = application(record)

if __name__ == "__main__":
    app()
