"""The exported network in MLflow: a run and a model of its own, beside its experiment's."""

import json
import shutil

import pytest

from pruning.facts import read_json
from stages import tracking
from stages.files import exported as exported_folder
from stages.files import gains as gains_folder
from stages.files import tuned
from stages.sync import folders
from tests.stages.smaller.conftest import SMALLER

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


@pytest.fixture
def home(study, exported, tmp_path, monkeypatch):
    """Return a copy of the study with nothing in MLflow."""
    assert exported.is_dir()
    shutil.copytree(study.folder, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "study"


def change(path, **facts):
    """Change some entries of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def test_export_and_gains_have_runs_of_their_own(home):
    folder, times = exported_folder("groups"), gains_folder("groups")
    counted, measured = read_json(folder / "metrics.json"), read_json(times / "metrics.json")
    known = folders(home)
    assert home / folder in known
    assert home / times in known
    with tracking.open(study=SMALLER["study"], strict=True) as tracker:
        store = tracker.store
        places = [each.experiment_id for each in store.client.search_experiments()]

        def runs():
            return {run.info.run_name: run for run in store.client.search_runs(places)}

        tracker.log(tuned("groups", counted["round"]))
        assert tracker.log(folder)
        assert tracker.log(times)
        logged = {name: run.data.metrics for name, run in runs().items()}
        assert logged["groups export"]["macs_shrunk"] == counted["macs_shrunk"]
        name = "speedup_shrunk_batch_32"
        assert logged["groups gains"][name] == pytest.approx(measured[name])

        # measured again, and exported with other settings: the experiment's runs stay what they are
        change(times / "metrics.json", threads=2)
        change(folder / "manifest.json", key="0" * 64, group={"export": "otherwise"})
        assert tracker.log(times)
        assert tracker.log(folder)
        old = [run.info.run_name for run in store.client.search_runs(places)]
        gone = [run for run in store.client.search_runs(places) if "superseded" in run.data.tags]
        assert [run.info.run_name for run in gone] == ["groups gains"]
        assert old.count("groups export") == old.count("groups gains") == 2
        assert old.count("groups") == 1
