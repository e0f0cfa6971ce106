"""What MLflow shows of the output folders: all of it, once, under runs found by their content."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages import tracking
from stages.tracking import records

# MLflow asks SQLAlchemy for what that will drop
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


def opened(**options):
    return tracking.open(study="digits", **options)


def log(*folders):
    with opened(strict=True) as tracker:
        return [tracker.log(folder) for folder in folders]


def history(client, run, key):
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]


def files(client, run, path=None):
    found = client.list_artifacts(run.info.run_id, path)
    return {file.path for file in found if not file.is_dir}


def test_the_hash_of_a_folder_is_dvc_s_own(tmp_path):
    folder = tmp_path / "out"
    (folder / "fold-1" / "b").mkdir(parents=True)
    for name in ("fold-1/é.bin", "fold-1/b/x", "fold-1/a", "fold-1.json", "z.csv"):
        (folder / name).write_bytes(name.encode() * 3)
    dvc = [sys.executable, "-m", "dvc"]
    run = {"cwd": tmp_path, "check": True, "capture_output": True}
    subprocess.run([*dvc, "init", "--no-scm", "-q"], **run)
    subprocess.run([*dvc, "add", "-q", "out"], **run)
    recorded = (tmp_path / "out.dvc").read_text()
    assert f"md5: {records.dvc_md5(records.hashes(folder))}" in recorded


def test_a_study_becomes_a_run_per_experiment_with_children_per_fold(study, runs):
    assert log(*study.whole()) == [True] * 7
    parents = [run for run in runs() if "mlflow.parentRunId" not in run.data.tags]
    names = [run.info.run_name for run in parents]
    assert sorted(names) == ["compare", "dense", "magnitude", "prepare", "random"]
    for parent in parents:
        children = runs(**{"mlflow.parentRunId": parent.info.run_id})
        with_folds = parent.info.run_name in ("dense", "magnitude", "random")
        folds = [run.data.tags["fold"] for run in children]
        assert folds == (["0", "1"] if with_folds else [])
    assert {run.info.status for run in runs()} == {"FINISHED"}
    assert {run.data.tags["study"] for run in runs()} == {"digits"}


def test_a_fold_s_run_holds_params_metrics_curves_and_tags(study, runs, client):
    folders = study.whole()
    log(*folders)
    (run,) = runs(experiment="magnitude", fold="1")
    assert run.data.params["finetune.learning_rate.base"] == "0.1"
    assert run.data.params["finetune.learning_rate.milestones"] == "[1, 2]"
    # a param never changes: what differs from round to round has a name of its own
    assert run.data.params["finetune.sparsity"] == "0.5"
    assert run.data.params["finetune.round-2.sparsity"] == "0.75"
    assert history(client, run, "sparsity") == [(1, 0.5), (2, 0.75)]
    assert history(client, run, "weights_kept") == [(1, 50), (2, 25)]
    assert history(client, run, "round-2/validation_accuracy") == [(10, 0.5)]
    assert history(client, run, "round-2/learning_rate") == [(10, 0.1), (20, 0.01)]
    losses = history(client, run, "round-1/train_loss")
    assert losses[0] == (10, 1.5) and losses[1][0] == 20 and math.isnan(losses[1][1])
    said = "round 2, rewound to step 5: 25 of 100 weights kept, 25.00 % remaining"
    assert run.data.tags["round-2"] == said
    digest = records.dvc_md5(records.hashes(folders[3]))
    assert run.data.tags["dvc.md5.finetune.round-2"] == digest
    assert "restored_from" not in run.data.tags
    (dense,) = runs(experiment="dense", fold="0")
    assert history(client, dense, "dense/validation_loss") == [(10, 1.25)]


def test_the_experiment_s_run_holds_mean_and_deviation_over_its_folds(study, runs, client):
    log(*study.whole())
    (parent,) = [r for r in runs(experiment="random") if "fold" not in r.data.tags]
    means = history(client, parent, "test_accuracy_mean")
    assert means == [(1, pytest.approx(0.85)), (2, pytest.approx(0.85))]
    # of 0.8 and 0.9: sqrt(2 * 0.05^2 / (2 - 1))
    assert history(client, parent, "test_accuracy_std")[1] == (2, pytest.approx(0.005**0.5))
    assert parent.data.params["finetune.learning_rate.base"] == "0.1"
    assert parent.data.tags["round-1"].endswith("50 of 100 weights kept, 50.00 % remaining")


def test_masks_checkpoints_tables_and_data_are_there(study, runs, client):
    log(*study.whole())
    (run,) = runs(experiment="magnitude", fold="1")
    top = "round-2/finetune"
    here = study.home / "work/magnitude/round-2/tuned/fold-1"
    names = {f"{top}/{path.name}" for path in here.iterdir()}
    assert files(client, run, top) == names | {f"{top}/manifest.json", f"{top}/layers.json"}
    place = study.home / "mlartifacts" / run.info.run_id / "artifacts"
    assert (place / top / "weights.safetensors").read_bytes() == bytes([1]) * 10
    table = client.load_table(run.info.experiment_id, f"{top}/layers.json", [run.info.run_id])
    assert table.to_dict("list") == {"layer": ["fc.weight"], "shape": ["4x3"], "kept": [6]}
    (data,) = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits", "d" * 36)
    (dense,) = runs(experiment="dense", fold="0")
    snapshots = "round-0/pretrain/snapshots"
    assert files(client, dense, snapshots) == {f"{snapshots}/step-0.safetensors"}
    (report,) = runs(experiment="compare")
    assert report.data.metrics == {"magnitude/round-2/test_accuracy": 0.85}
    assert files(client, report, "compare") == {
        f"compare/{name}" for name in ("manifest.json", "metrics.json", "report.md")
    }


def test_the_spectrum_and_the_course_of_isometry_are_there(study, runs, client):
    study.prepared(), study.dense()
    folder = study.tuned("magnitude", 1)
    part = folder / "fold-0"
    (part / "isometry.csv").write_text(
        "step,epoch,split,loss\n0,0,isometry,4.5\n25,0,isometry,2.0\n"
    )
    (part / "spectrum.png").write_bytes(b"\x89PNG")
    (part / "spectrum.csv").write_text("moment,layer,example,rank,value\ninit,network,0,0,1.5\n")
    told = json.loads((part / "metrics.json").read_text())
    told["spectrum"] = {"init": {"network": {"mean": 1.5, "max": 1.5}}}
    (part / "metrics.json").write_text(json.dumps(told))
    log(folder)
    (run,) = runs(experiment="magnitude", fold="0")
    assert history(client, run, "round-1/isometry_loss") == [(0, 4.5), (25, 2.0)]
    assert history(client, run, "spectrum/init/network/mean") == [(1, 1.5)]
    top = "round-1/finetune"
    wanted = {f"{top}/{name}" for name in ("isometry.csv", "spectrum.csv", "spectrum.png")}
    assert wanted <= files(client, run, top)


def test_a_huge_file_stays_with_dvc_and_leaves_its_hash(study, runs, client, monkeypatch):
    from stages.tracking import log as logging

    monkeypatch.setattr(logging, "LARGE", 9)
    study.prepared(), study.dense()
    log(study.tuned("magnitude", 1))
    (run,) = runs(experiment="magnitude", fold="0")
    assert "round-1/finetune/masks.safetensors" in files(client, run, "round-1/finetune")
    assert "round-1/finetune/weights.safetensors" not in files(client, run, "round-1/finetune")
    told = run.data.tags["file.round-1/finetune/weights.safetensors"]
    assert told == "md5 a63c90cc3684ad8b0a2176a6a8fe9005, 10 bytes, kept by DVC alone"


def shown(runs):
    # as text: NaN is not equal to itself
    return {run.info.run_id: json.dumps(run.data.to_dictionary()) for run in runs()}


def test_logging_again_adds_nothing_and_an_interrupted_log_is_completed(study, runs, client):
    folders = study.whole()
    log(*folders)
    before = shown(runs)
    assert log(*folders) == [False] * 7
    assert shown(runs) == before
    (run,) = runs(experiment="magnitude", fold="0")
    client.delete_tag(run.info.run_id, "dvc.md5.finetune.round-2")
    assert log(folders[3]) == [True]
    assert history(client, run, "sparsity") == [(1, 0.5), (2, 0.75)]
    assert len(history(client, run, "round-2/train_loss")) == 2
    assert len(client.get_run(run.info.run_id).inputs.dataset_inputs) == 1


def test_a_new_round_extends_the_runs_and_new_settings_make_others(study, runs, client):
    log(*study.whole())
    log(study.tuned("magnitude", 3))
    (run,) = runs(experiment="magnitude", fold="0")
    assert [step for step, _ in history(client, run, "sparsity")] == [1, 2, 3]
    log(study.tuned("magnitude", 1, rate=0.5))
    assert len(runs(experiment="magnitude", fold="0")) == 2
    assert not [run for run in runs() if "superseded" in run.data.tags]


def test_a_run_of_new_settings_tells_those_of_the_masks_that_it_goes_on_from(study, runs):
    study.prepared(), study.dense()
    made = {"stage": "prune", "experiment": "magnitude", "round": 1, "folds": [0, 1]}
    masks = study.write("work/masks", "m" * 64, params={"criterion": "magnitude"}, **made)
    tuned = study.tuned("magnitude", 1, rate=0.2)
    manifest = json.loads((tuned / "manifest.json").read_text())
    manifest["inputs"]["work/masks"] = "m" * 64
    (tuned / "manifest.json").write_text(json.dumps(manifest))
    log(masks, tuned)
    last = [run for run in runs(experiment="magnitude") if "finetune.sparsity" in run.data.params]
    assert len(last) == 3  # the experiment's run and those of its folds
    assert {run.data.params["prune.criterion"] for run in last} == {"magnitude"}


def test_what_a_folder_was_made_from_is_logged_with_it(study, runs):
    log(study.whole()[3])  # round 2, and nothing else
    (run,) = runs(experiment="magnitude", fold="0")
    assert "dvc.md5.finetune.round-1" in run.data.tags
    assert runs(experiment="dense", fold="1") and runs(experiment="prepare")
    assert not runs(experiment="random")


def test_a_folder_counts_as_logged_only_once_its_sources_are(study, runs):
    folders = study.whole()
    broken = folders[1] / "fold-0" / "metrics.json"
    good = broken.read_text()
    broken.write_text("{")
    with opened() as tracker:
        assert tracker.log(folders[2]) is False
    assert "dvc.md5.finetune.round-1" not in runs(experiment="magnitude", fold="0")[0].data.tags
    broken.write_text(good)
    assert log(folders[2]) == [True]
    assert "dvc.md5.pretrain.round-0" in runs(experiment="dense", fold="0")[0].data.tags


def current(runs):
    parents = [r for r in runs(experiment="magnitude") if "fold" not in r.data.tags]
    (parent,) = [run for run in parents if "superseded" not in run.data.tags]
    return len(parents), parent


def test_other_bytes_from_the_same_settings_supersede_and_never_mix(study, runs, client):
    study.whole()
    log(*[study.tuned("magnitude", n) for n in (1, 2)])
    _, old = current(runs)
    # the code has changed, and only round 1 is done anew: round 2 belongs to the old one
    first = study.tuned("magnitude", 1, key="new-1", bonus=0.05)
    log(first)
    count, new = current(runs)
    assert count == 2 and new.info.run_id != old.info.run_id
    assert history(client, new, "test_accuracy_mean") == [(1, pytest.approx(0.9))]
    log(study.tuned("magnitude", 2, key="new-2", bonus=0.05))
    count, again = current(runs)
    assert (count, again.info.run_id) == (2, new.info.run_id)
    assert [step for step, _ in history(client, again, "test_accuracy_mean")] == [1, 2]
    # and back to the old code: DVC restores the old files, MLflow has their runs
    assert log(*[study.tuned("magnitude", n) for n in (1, 2)]) == [False, False]
    count, back = current(runs)
    assert (count, back.info.run_id) == (2, old.info.run_id)


def rows(part, count):
    return records.rows(part / "history.csv")[:count]


def test_a_fold_is_seen_while_it_trains_and_no_row_is_logged_twice(study, runs, client):
    study.prepared(), study.dense()
    folder = study.tuned("magnitude", 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    with opened(strict=True) as tracker:
        lives = [tracker.live(folder, manifest, fold) for fold in (0, 1)]
        (run,) = runs(experiment="magnitude", fold="0")
        assert run.info.status == "RUNNING"
        lives[0].progress(rows(folder / "fold-0", 1))
        assert history(client, run, "round-1/train_loss") == [(10, 1.5)]
        lives[0].progress(rows(folder / "fold-0", 2))
        assert history(client, run, "round-1/validation_loss") == [(10, 1.25)]
        assert tracker.log(folder)
    for run in runs(experiment="magnitude"):
        assert run.info.status == "FINISHED"
        curve = history(client, run, "round-1/train_loss")
        assert len(curve) == (2 if "fold" in run.data.tags else 0)


def test_a_failure_is_seen_and_the_next_attempt_clears_it(study, runs):
    study.prepared(), study.dense()
    folder = study.tuned("magnitude", 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    with (
        pytest.raises(ArithmeticError),
        opened(strict=True) as tracker,
    ):
        tracker.live(folder, manifest, 0).failed("loss is NaN in epoch 3")
        tracker.live(folder, manifest, 1)
        raise ArithmeticError("out of numbers")
    errors = {
        r.data.tags.get("fold"): r.data.tags.get("error") for r in runs(experiment="magnitude")
    }
    assert errors == {None: None, "0": "loss is NaN in epoch 3", "1": "out of numbers"}
    assert {run.info.status for run in runs(experiment="magnitude")} == {"FAILED"}
    with opened(strict=True) as tracker:
        tracker.live(folder, manifest, 0)
        tracker.log(folder)
    assert {run.info.status for run in runs(experiment="magnitude")} == {"FINISHED"}
    (run,) = runs(experiment="magnitude", fold="0")
    assert "error" not in run.data.tags


def test_a_killed_stage_s_run_is_marked_killed_and_gone_on_with(study, runs, client):
    study.prepared(), study.dense()
    folder = study.tuned("magnitude", 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    child = os.fork()
    if child == 0:
        tracker = opened()
        tracker.live(folder, manifest, 0).progress(rows(folder / "fold-0", 1))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (run,) = runs(fold="0", experiment="magnitude")
    assert run.info.status == "RUNNING"
    with opened(strict=True) as tracker:
        (run,) = runs(fold="0", experiment="magnitude")
        assert run.info.status == "KILLED"
        assert f":{child} ended" in run.data.tags["killed.finetune.round-1"]
        live = tracker.live(folder, manifest, 0)
        with opened(strict=True):  # somebody else comes along: this one is alive
            assert client.get_run(run.info.run_id).info.status == "RUNNING"
        live.progress(rows(folder / "fold-0", 3))
        tracker.log(folder)
    assert len(history(client, run, "round-1/train_loss")) == 2


def test_an_interrupted_stage_s_run_is_killed_not_failed(study, runs):
    study.prepared(), study.dense()
    folder = study.tuned("magnitude", 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    with pytest.raises(KeyboardInterrupt), opened(strict=True) as tracker:
        tracker.live(folder, manifest, 0)
        raise KeyboardInterrupt
    (run,) = runs(fold="0", experiment="magnitude")
    assert run.info.status == "KILLED" and "error" not in run.data.tags


def test_mlflow_s_own_variables_do_no_harm(study, runs, client, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123456789abcdef0123456789abcdef")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "elsewhere")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    log(*study.whole())
    assert len(runs(experiment="magnitude")) == 3
    names = {each.name for each in client.search_experiments()}
    assert names == {"Default", "none", "digits"}


def test_four_processes_open_a_fresh_store_and_log_at_once(study, runs, run_python):
    home = study.home.parent / "fresh"
    home.mkdir()
    study = type(study)(home)
    study.prepared(), study.dense()
    for n in range(1, 5):
        study.tuned("magnitude", n)
    code = f"""
import os, mlflow
from pathlib import Path
from stages import tracking
os.chdir({str(home)!r})
def work(n):
    with tracking.open(study="digits", strict=True) as tracker:
        tracker.log(Path(f"work/magnitude/round-{{n}}/tuned"), restored=True)
for n in range(1, 5):
    if os.fork() == 0:
        work(n)
        os._exit(0)
print(*[os.wait()[1] for _ in range(4)])
"""
    done = run_python(code, MLFLOW_LOGGING_LEVEL="WARNING")
    assert (done.stdout, done.stderr) == ("0 0 0 0\n", "")
    from mlflow import MlflowClient

    fresh = MlflowClient(f"sqlite:///{study.home / 'mlflow.db'}")
    found = runs(fresh, experiment="magnitude")
    assert len(found) == 3  # one parent, two folds, whoever came first
    for run in found:
        if "fold" in run.data.tags:
            assert [step for step, _ in history(fresh, run, "sparsity")] == list(range(1, 5))


def test_four_processes_may_name_the_same_new_data_at_once(study, client, run_python):
    run = client.create_run(client.create_experiment("digits"))
    for n in range(20):
        study.write(f"data-{n}", f"{n}" * 32, stage="prepare")
        study.write(f"work-{n}", "w" * 64, (f"data-{n}",), stage="pretrain")
    code = f"""
import mlflow, multiprocessing, os
from pathlib import Path
from stages.tracking.log import log_data
from stages.tracking.records import read
from stages.tracking.store import connect
begin = multiprocessing.get_context("fork").Barrier(4)
def work():
    store = connect(Path.cwd(), "digits", timeout=10, retries=1)
    run = store.client.get_run({run.info.run_id!r})
    for n in range(20):
        record = read(Path(f"work-{{n}}").resolve())
        begin.wait(30)
        log_data(store, record, run)
for n in range(4):
    if os.fork() == 0:
        work()
        os._exit(0)
print(*[os.wait()[1] for _ in range(4)])
"""
    done = run_python(code)
    assert (done.stdout, done.stderr) == ("0 0 0 0\n", "")
    inputs = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert {each.dataset.digest for each in inputs} == {(f"{n}" * 32)[:36] for n in range(20)}


def test_switched_off_mlflow_is_never_imported(study, run_python):
    folder = study.prepared()
    code = (
        "import sys; from pathlib import Path; from stages import tracking\n"
        "with tracking.open(enabled={}) as tracker:\n"
        f"    print(tracker.log(Path({str(folder)!r})), tracker.log_model(Path('x'), None))\n"
        "    live = tracker.live(Path(), {{}}, 0); live.progress([]); live.failed('x')\n"
        "print('mlflow' in sys.modules)"
    )
    for enabled, environment in (("False", {}), ("True", {"PRUNING_TRACKING": "off"})):
        done = run_python(code.format(enabled), **environment)
        assert (done.stdout, done.stderr) == ("False None\nFalse\n", "")


def test_without_mlflow_installed_the_stage_goes_on(study, run_python):
    folder = study.prepared()
    code = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from pathlib import Path; from stages import tracking\n"
        f"with tracking.open() as tracker: print(tracker.log(Path({str(folder)!r})))"
    )
    done = run_python(code)
    assert done.stdout == "False\n"
    assert (
        done.stderr.startswith("warning: MLflow is not installed") and done.stderr.count("\n") == 1
    )


def test_a_folder_that_cannot_be_read_is_a_warning_and_tracking_goes_on(study, capsys):
    folders = study.whole()
    (folders[2] / "fold-0" / "metrics.json").write_text('{"sparsity": 0.')
    with opened() as tracker:
        assert [tracker.log(folder) for folder in folders[:3]] == [True, True, False]
        assert tracker.log(folders[-2])
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "round-1/tuned/fold-0/metrics.json: cannot be read" in told


class TestModel:
    @pytest.fixture
    def network(self):
        import torch

        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(),
            torch.nn.Dropout(), torch.nn.Linear(72, 10),
        )  # fmt: skip
        return model, torch.rand(1, 1, 8, 8)

    def test_the_chosen_network_is_logged_once_and_runs_as_it_was(
        self, study, runs, client, network
    ):
        import mlflow
        import torch

        study.whole()
        fold = study.home / "work/magnitude/round-2/tuned/fold-1"
        with opened(strict=True) as tracker:
            found = tracker.log_model(fold, lambda: network)
            again = tracker.log_model(fold, lambda: pytest.fail("built a second time"))
        assert found == again
        model = client.get_logged_model(found)
        assert model.status == "READY"
        (parent,) = [r for r in runs(experiment="magnitude") if "fold" not in r.data.tags]
        assert model.source_run_id == parent.info.run_id
        assert parent.data.tags["model.from"] == "work/magnitude/round-2/tuned/fold-1"
        folder = Path(study.home / "mlartifacts/models" / found / "artifacts")
        names = {path.name for path in folder.rglob("*") if path.is_file()}
        assert "model.pt2" in names and not {n for n in names if n.endswith((".pth", ".pkl"))}
        loaded = mlflow.pytorch.load_model(str(folder))
        batch = torch.rand(5, 1, 8, 8)  # another size of batch than the example's
        assert torch.equal(loaded(batch), network[0].eval()(batch))
        signature = mlflow.models.get_model_info(str(folder)).signature
        assert signature.inputs.inputs[0].shape == (-1, 1, 8, 8)
        assert signature.outputs.inputs[0].shape == (-1, 10)

    def test_a_network_of_words_with_two_outputs(self, study):
        import mlflow
        import torch

        class Words(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding = torch.nn.Embedding(11, 4)

            def forward(self, tokens):
                found = self.embedding(tokens)
                return found, found.mean(1)

        study.whole()
        fold = study.home / "work/random/round-1/tuned/fold-0"
        model, tokens = Words(), torch.arange(6).reshape(2, 3)
        with opened(strict=True) as tracker:
            found = tracker.log_model(fold, lambda: (model, tokens))
        folder = str(study.home / "mlartifacts/models" / found / "artifacts")
        assert torch.equal(mlflow.pytorch.load_model(folder)(tokens)[1], model(tokens)[1])

    def test_another_chosen_network_takes_its_place(self, study, runs, network):
        study.whole()
        with opened(strict=True) as tracker:
            found = [
                tracker.log_model(
                    study.home / f"work/magnitude/round-{n}/tuned/fold-0", lambda: network
                )
                for n in (1, 2)
            ]
        (parent,) = [r for r in runs(experiment="magnitude") if "fold" not in r.data.tags]
        assert parent.data.tags["model.id"] == found[1] != found[0]
