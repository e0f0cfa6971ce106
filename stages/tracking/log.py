"""Log one output folder: what it holds goes to its folds' runs, their mean to the experiment's."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.tracking import runs
from stages.tracking.records import (
    MANIFEST,
    Record,
    curves,
    dvc_md5,
    facts,
    flat,
    hashes,
    line,
    numbers,
    read,
    rows,
    summary,
    upstream,
)
from stages.tracking.store import Store, lock
from stages.tracking.write import write, write_file, write_params, write_tables

if TYPE_CHECKING:
    from torch import Tensor, nn

COURSES = ("history.csv", "isometry.csv")
LARGE = 256 * 2**20  # bytes; DVC alone keeps such a file, MLflow gets its hash


def log_folder(store: Store, folder: Path, *, restored: bool = False, sources: bool = True) -> bool:
    """Log the folder unless it is there, and its sources with it; tell whether it was not.

    The tag with DVC's hash comes last, so a folder that has it is there whole, sources and all.
    """
    record = read(folder)
    files = hashes(folder)
    digest = dvc_md5(files)
    places = runs.find(store, record, digest)
    missing = {k: run for k, run in places.runs.items() if not runs.logged(run, record, digest)}
    for fold, run in missing.items():
        _log_content(store, record, fold, run, files)
    if missing:
        _log_summary(store, record, places.parent)
        for source in upstream(record, store.home) if sources else ():
            if not _present(store, source):
                log_folder(store, source.folder)
        tags = {f"key.{record.place}": record.key, f"dvc.md5.{record.place}": digest}
        for run in missing.values():
            write(store, run, tags=tags | ({"restored_from": "dvc"} if restored else {}))
            runs.finish(store, run)
        runs.finish(store, places.parent)
    return bool(missing)


def log_model(
    store: Store, fold_folder: Path, build: "Callable[[], tuple[nn.Module, Tensor]]"
) -> str | None:
    """Log the fold's network as the model of its experiment unless it is that already."""
    from stages.tracking.model import log_network_model

    record = read(fold_folder.parent)
    parent = runs.find(store, record).parent
    digest = dvc_md5(hashes(fold_folder))
    if parent.data.tags.get("model.md5") == digest:
        return str(parent.data.tags["model.id"])
    source = fold_folder.resolve().relative_to(store.home).as_posix()
    tags = {"from": source, "md5": digest, "stage_key": record.key}
    model, example = build()
    found = log_network_model(store, parent, model, example, _model_name(record), tags)
    tags = {"model.from": source, "model.id": found, "model.md5": digest}
    write(store, parent, tags=tags)
    return found


def _model_name(record: Record) -> str:
    name = record.experiment or record.stage
    return (f"{name}_shrunk" if record.stage == "export" else name).replace(".", "_")


def _present(store: Store, record: Record) -> bool:
    return all(runs.logged(run, record) for run in runs.find(store, record).runs.values())


def _log_content(
    store: Store, record: Record, fold: int | None, run: Any, files: Mapping[str, str]
) -> None:
    """Log params, metrics, curves, files and data of one fold; all of the folder without folds."""
    base = record.folder if fold is None else record.folder / f"fold-{fold}"
    found = facts(base)
    _log_params(store, record, run)
    metrics = [(name, value, record.round) for name, value in numbers(found).items()]
    courses = [row for name in COURSES for row in rows(base / name)]
    points = metrics + curves(courses, record.level)
    write(store, run, metrics=points, tags=_tags(record, found))
    _log_files(store, record, run, base, files)
    log_data(store, record, run)


def _log_params(store: Store, record: Record, run: Any) -> None:
    """Log the folder's settings, and those of what it was made from that has another run.

    A source that a change of settings leaves as it is keeps the run of the settings before it.
    """
    write_params(store, run, flat(record.params, record.stage), record.place)
    for source in upstream(record, store.home):
        if source.experiment == record.experiment and source.group_key != record.group_key:
            write_params(store, run, flat(source.params, source.stage), source.place)


def _tags(record: Record, found: Mapping[str, Any]) -> dict[str, str]:
    texts = {k: v for k, v in found.items() if isinstance(v, str)}
    said = {f"round-{record.round}.{name}": value for name, value in texts.items()}
    told = line(record, found)
    return said | ({f"round-{record.round}": told} if told else {})


def _log_files(
    store: Store, record: Record, run: Any, base: Path, files: Mapping[str, str]
) -> None:
    top = f"round-{record.round}/{record.stage}" if record.experiment else record.stage
    tables = {}
    for name, digest in files.items():
        path = record.folder / name
        if not path.is_relative_to(base) and name != MANIFEST:
            continue
        inside = path.relative_to(base if path.is_relative_to(base) else record.folder)
        if path.stat().st_size > LARGE:
            told = f"md5 {digest}, {path.stat().st_size} bytes, kept by DVC alone"
            write(store, run, tags={f"file.{top}/{inside}": told})
            continue
        write_file(store, run, path, (top / inside.parent).as_posix())
        if path.name == "layers.csv":
            tables[(top / inside.with_suffix(".json")).as_posix()] = rows(path)
    write_tables(store, run, tables)


def log_data(store: Store, record: Record, run: Any) -> None:
    """Log the data set as the run's input, by the key of the folder that prepare made."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    for source in upstream(record, store.home):
        if source.stage == "prepare":
            meta = source.folder / "meta.json"
            name = json.loads(meta.read_text()).get("name") if meta.is_file() else None
            path = json.dumps({"uri": source.folder.relative_to(store.home).as_posix()})
            data = Dataset(str(name or "data"), source.key[:36], "local", path)
            context = [InputTag("mlflow.data.context", "training")]
            with lock(store.home):  # two at once would both make the data set
                store.client.log_inputs(run.info.run_id, [DatasetInput(data, context)])


def _log_summary(store: Store, record: Record, parent: Any) -> None:
    """Log params, and mean and standard deviation over the folds, on the experiment's run."""
    if not record.folds:
        return
    found = [facts(record.folder / f"fold-{fold}") for fold in record.folds]
    mean = summary([numbers(each) for each in found])
    _log_params(store, record, parent)
    average = {name: mean.get(f"{name}_mean") for name in ("weights_kept", "weights")}
    told = line(record, {**found[0], **average})
    points = [(name, value, record.round) for name, value in mean.items()]
    write(store, parent, metrics=points, tags={f"round-{record.round}": told} if told else {})
