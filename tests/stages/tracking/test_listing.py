"""The runs that hold a study's present results, found for its record."""

import json
from pathlib import Path

import pytest

from pruning.errors import PruningError
from stages import tracking
from stages.tracking import listing

# MLflow asks SQLAlchemy for what that will drop
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

FOLDERS = [Path("work/dense"), Path("work/magnitude/round-2/tuned")]


def log(study):
    with tracking.open(study="digits", strict=True) as tracker:
        for folder in study.whole()[:4]:
            tracker.log(folder)


def test_an_experiment_and_its_folds_are_listed_by_the_ids_that_mlflow_has(study, runs):
    log(study)
    found = listing.runs(study.home, "digits", FOLDERS)
    assert [(run.experiment, run.fold) for run in found] == [
        *(("dense", fold) for fold in (None, 0, 1)),
        *(("magnitude", fold) for fold in (None, 0, 1)),
    ]
    (one,) = runs(experiment="magnitude", fold="1")
    assert found[-1].run_id == one.info.run_id
    assert found[-1].times == (one.info.start_time / 1000, one.info.end_time / 1000)


def test_what_another_study_made_and_dvc_restored_is_listed_as_this_study_s(study, client):
    study.prepared()
    folder = study.dense()
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "study": "another"}))
    with tracking.open(study="digits", strict=True) as tracker:
        tracker.log(folder)
    found = listing.runs(study.home, "digits", FOLDERS[:1])
    assert [run.fold for run in found] == [None, 0, 1]
    assert client.get_run(found[0].run_id).data.tags["study"] == "digits"
    assert client.get_experiment_by_name("another") is None


def test_runs_of_other_settings_are_not_listed(study):
    log(study)
    before = {run.run_id for run in listing.runs(study.home, "digits", FOLDERS[1:])}
    for n in (1, 2):
        folder = study.tuned("magnitude", n, rate=0.2)
        with tracking.open(study="digits", strict=True) as tracker:
            tracker.log(folder)
    after = {run.run_id for run in listing.runs(study.home, "digits", FOLDERS[1:])}
    assert len(after) == 3
    assert not before & after


def test_superseded_runs_are_not_listed(study):
    log(study)
    before = {run.run_id for run in listing.runs(study.home, "digits", FOLDERS[1:])}
    folder = study.tuned("magnitude", 2, key="other bytes", bonus=0.05)
    with tracking.open(study="digits", strict=True) as tracker:
        tracker.log(folder)
    after = {run.run_id for run in listing.runs(study.home, "digits", FOLDERS[1:])}
    assert len(after) == 3
    assert not before & after


def test_what_the_store_lacks_is_told(study):
    study.whole()
    with pytest.raises(PruningError, match=r"holds no run of dense; run `python -m stages\.sync`"):
        listing.runs(study.home, "digits", FOLDERS)
    (study.home / "mlflow.db").unlink()
    with pytest.raises(PruningError, match="no MLflow store here"):
        listing.runs(study.home, "digits", FOLDERS)
    assert not (study.home / "mlflow.db").exists()
