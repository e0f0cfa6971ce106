"""Write to MLflow's runs what they take, in few requests, and nothing twice."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.tracking.records import Point
from stages.tracking.store import Store, lock

# MLflow's own limits
METRICS, ENTITIES, VALUE, TAG = 1000, 100, 6000, 5000


def write(
    store: Store,
    run: Any,
    *,
    metrics: Sequence[Point] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log in as few requests as MLflow's limits allow.

    A metric's time is the run's start plus its step, not the clock's: MLflow then knows a value
    that it was already given, so that logging again after an interruption adds nothing twice.
    """
    from mlflow.entities import Metric, Param, RunTag

    run_id, start = run.info.run_id, run.info.start_time
    for part in _parts(list(metrics), METRICS):
        values = [Metric(name(key), value, start + step, step) for key, value, step in part]
        store.client.log_batch(run_id, metrics=values)
    for part in _parts(list((params or {}).items()), ENTITIES):
        store.client.log_batch(run_id, params=[Param(k, v) for k, v in part])
    for part in _parts(list((tags or {}).items()), ENTITIES):
        store.client.log_batch(run_id, tags=[RunTag(k, v[:TAG]) for k, v in part])


def write_params(store: Store, run: Any, params: Mapping[str, str], place: str) -> None:
    """Log the params that are new; one that is there with another value goes under its round too.

    MLflow's params never change: what differs from round to round becomes `place.key`, and should
    even that be taken, a tag.
    """
    with lock(store.home):
        known = store.client.get_run(run.info.run_id).data.params
        new, tags = _sorted_out(params, known, place)
        write(store, run, params=new, tags=tags)


def write_file(store: Store, run: Any, path: Path, inside: str) -> None:
    """Log one file as an artifact in the folder `inside`."""
    store.client.log_artifact(run.info.run_id, str(path), inside)


def write_tables(store: Store, run: Any, tables: Mapping[str, list[dict[str, str]]]) -> None:
    """Log tables (path -> rows) so that MLflow shows and `load_table` reads them, once each."""
    if not tables:
        return
    run_id, tag = run.info.run_id, "mlflow.loggedArtifacts"
    for path, rows in tables.items():
        columns = list(rows[0]) if rows else []
        data = [[_cell(row[column]) for column in columns] for row in rows]
        store.client.log_dict(run_id, {"columns": columns, "data": data}, path)
    with lock(store.home):
        listed = json.loads(store.client.get_run(run_id).data.tags.get(tag, "[]"))
        entries = [{"path": path, "type": "table"} for path in tables]
        listed += [entry for entry in entries if entry not in listed]
        store.client.set_tag(run_id, tag, json.dumps(listed))


def name(text: str) -> str:
    """Return `text` as a name that MLflow accepts for a metric, param or tag."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)[:250]


def _sorted_out(
    params: Mapping[str, str], known: Mapping[str, str], place: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Return (params to log, tags to set): a key that is taken gives way to one of its round."""
    new: dict[str, str] = {}
    tags: dict[str, str] = {}
    for key, value in params.items():
        key, value = name(key), value if len(value) <= VALUE else value[: VALUE - 3] + "..."
        own = name(place + key.removeprefix(place.split(".")[0]))
        free = next((each for each in (key, own) if known.get(each, value) == value), None)
        if free is None:
            tags[own] = value
        elif free not in known:
            new[free] = value
    return new, tags


def _cell(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _parts(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
