"""An exported network and its times in MLflow: runs of their own, beside their experiment's."""

import json

import pytest

from stages import tracking
from stages.sync import folders

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")

TUNED = "work/magnitude/round-2/tuned"
EXPORTED, TIMES = "exports/magnitude/handed-on", "results/gains/magnitude"


def write(study, stage, path, inputs, speed, *, key):
    """Write a folder as the export or the gains stage leaves it: no folds, metrics beside it."""
    manifest = {"stage": stage, "experiment": "magnitude", "round": 2, "params": {"threads": 1}}
    folder = study.write(
        path, key, inputs, group={"criterion": "magnitude", stage: key}, **manifest
    )
    (folder / "metrics.json").write_text(json.dumps({"macs_shrunk": 42, "speedup": speed}))
    return folder


@pytest.fixture
def made(study):
    """Return the folders of an export and of its times."""
    study.whole()
    exported = write(study, "export", EXPORTED, (TUNED,), 0, key="first")
    return exported, write(study, "gains", TIMES, (EXPORTED,), 1.5, key="times")


def test_export_and_gains_have_runs_of_their_own(study, made, runs):
    exported, times = made
    assert set(made) <= set(folders(study.home))
    with tracking.open(study="digits", strict=True) as tracker:
        assert tracker.log(times)  # and with it what it was made from
        assert not tracker.log(exported)
    named = {run.info.run_name: run.data.metrics for run in runs()}
    assert named["magnitude export"]["macs_shrunk"] == 42
    assert named["magnitude gains"]["speedup"] == 1.5
    assert "speedup" not in named["magnitude"]


def test_other_times_and_settings_leave_the_experiment_s_runs_alone(study, made, runs):
    with tracking.open(study="digits", strict=True) as tracker:
        tracker.log(made[1])
        tracker.log(write(study, "export", EXPORTED, (TUNED,), 0, key="other settings"))
        tracker.log(write(study, "gains", TIMES, (EXPORTED,), 1.25, key="times"))
    names = [run.info.run_name for run in runs()]
    assert names.count("magnitude export") == names.count("magnitude gains") == 2
    assert names.count("magnitude") == names.count("magnitude fold 0") == 1
    gone = [run for run in runs() if "superseded" in run.data.tags]
    assert [(run.info.run_name, run.data.metrics["speedup"]) for run in gone] == [
        ("magnitude gains", 1.5)
    ]


def test_the_model_of_an_export_has_a_name_of_its_own(made):
    from stages.tracking import log, records

    assert log._model_name(records.read(made[0])) == "magnitude_shrunk"
