"""Log into MLflow whatever the outputs that DVC holds say and the store lacks."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stages.command import PARAMS, ParamsFile, application, one_line_errors

if TYPE_CHECKING:
    from stages.tracking import Tracker


def sync(params: ParamsFile = PARAMS) -> None:
    """Log into MLflow what the output folders hold and the store lacks; an empty store too."""
    with one_line_errors():
        from stages import tracking

        (study, enabled), home = _settings(params), params.resolve().parent
        with tracking.open(study=study, enabled=enabled, folder=home, strict=True) as tracker:
            if tracker.store is None:
                typer.echo("tracking is off; nothing logged")
            elif broken := log_missing(tracker, home):
                raise SystemExit(f"error: {broken} folders cannot be logged")


def log_missing(tracker: "Tracker", home: Path) -> int:
    """Log every output folder, a line for each that was missing; return how many cannot be."""
    from pruning.errors import PruningError
    from stages.tracking import TrackingError

    logged = there = broken = 0
    for folder in folders(home):
        name = folder.relative_to(home)
        try:
            if source := _outdated(folder, home):
                typer.echo(f"skipped {name}: {source} is newer; `dvc repro` makes both agree")
            elif tracker.log(folder, restored=True):
                logged += 1
                typer.echo(f"logged {name}")
            else:
                there += 1
        except TrackingError:
            raise
        except PruningError as error:
            broken += 1
            typer.echo(f"error: {error}", err=True)
    typer.echo(f"{logged} folders logged, {there} already there")
    return broken


def folders(home: Path) -> list[Path]:
    """Return the study's output folders: data, work, results and reports, rounds in their order."""
    from stages.files import PREPARED, REPORTS

    found = [home / PREPARED, home / REPORTS]
    for top in (home / "work", home / "results"):
        found += [path.parent for path in top.rglob("manifest.json")]
    found += [path.parent for path in home.glob("exports/*/handed-on/manifest.json")]
    names = [folder.relative_to(home) for folder in found if (folder / "manifest.json").is_file()]
    finished = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    return [home / name for name in sorted(finished, key=_order)]


def _outdated(folder: Path, home: Path) -> str:
    """Return the input that was made anew since `folder` was, or "" if there is none."""
    from stages.tracking.records import read, stale

    return stale(read(folder), home)


def _order(path: Path) -> list[Any]:
    """Sort data first, reports last, numbers by value."""
    top = ("data", "work", "exports", "results", "reports").index(path.parts[0])
    return [top, *((text, int(n or -1)) for text, n in re.findall(r"(\D+)(\d*)", str(path)))]


def _settings(params: Path) -> tuple[str, bool]:
    """Return (study, whether to track): all else may be half edited, the results are not."""
    import yaml

    from pruning.errors import PruningError

    try:
        found = yaml.safe_load(params.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise PruningError(f"{params}: cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise PruningError(f"{params}: not a mapping of settings")
    return str(found.get("study", "pruning")), found.get("tracking", True) is not False


app = application(sync)

if __name__ == "__main__":
    app()
