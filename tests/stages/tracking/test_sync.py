"""What DVC holds and MLflow lacks is logged from the files, into an empty store too."""

import json
import shutil

import pytest

from stages import sync, tracking

# MLflow asks SQLAlchemy for what that will drop
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


def synced(capsys, *arguments):
    """Run the command; return (exit code, lines of stdout, stderr)."""
    with pytest.raises(SystemExit) as end:
        sync.app(list(arguments))
    told = capsys.readouterr()
    return end.value.code, told.out.splitlines(), told.err


def test_an_empty_store_gets_everything_a_full_one_nothing(study, runs, capsys):
    study.whole()
    code, lines, errors = synced(capsys)
    assert (code, errors) == (0, "")
    assert lines == [
        "logged data/prepared",
        "logged work/dense",
        "logged work/magnitude/round-1/tuned",
        "logged work/magnitude/round-2/tuned",
        "logged work/random/round-1/tuned",
        "logged work/random/round-2/tuned",
        "logged reports",
        "7 folders logged, 0 already there",
    ]
    assert {run.data.tags["restored_from"] for run in runs() if "fold" in run.data.tags} == {"dvc"}
    assert synced(capsys) == (0, ["0 folders logged, 7 already there"], "")


def test_only_what_is_missing_is_logged(study, runs, capsys):
    folders = study.whole()
    with tracking.open(study="digits", strict=True) as tracker:
        for folder in folders[:3]:
            tracker.log(folder)
    for n in range(3, 11):
        study.tuned("magnitude", n)
    code, lines, _ = synced(capsys)
    assert code == 0
    assert lines[8] == "logged work/magnitude/round-10/tuned"  # after round 9, not before 2
    assert lines[-1] == "12 folders logged, 3 already there"
    (dense,) = runs(experiment="dense", fold="0")
    assert "restored_from" not in dense.data.tags


def test_rounds_that_a_newer_one_has_overtaken_are_left_out(study, runs, capsys):
    study.whole()
    study.tuned("magnitude", 1, key="made-anew")
    code, lines, _ = synced(capsys)
    assert code == 0
    assert any(
        line.startswith(
            "skipped work/magnitude/round-2/tuned: work/magnitude/round-1/tuned is newer"
        )
        for line in lines
    )
    (run,) = runs(experiment="magnitude", fold="0")
    assert "dvc.md5.finetune.round-2" not in run.data.tags


def test_half_written_and_broken_folders(study, capsys):
    folders = study.whole()
    shutil.copytree(folders[2], study.home / "work/random/.round-1.123.partial")
    (folders[3] / "manifest.json").write_text('{"stage": "finetune"}')
    (folders[4] / "fold-0/history.csv").write_text("step,split,loss\n1,train,none\n")
    code, lines, errors = synced(capsys)
    assert code not in (0, None)
    assert "work/magnitude/round-2/tuned/manifest.json: not a manifest (KeyError('key'))" in errors
    assert "cannot read the row {'step': '1', 'split': 'train', 'loss': 'none'}" in errors
    assert "Traceback" not in errors and not any("partial" in line for line in lines)
    assert "logged work/random/round-2/tuned" in lines


def test_moved_elsewhere_the_study_is_logged_anew(study, capsys, empty_store, monkeypatch):
    study.whole()
    synced(capsys)
    moved = study.home.parent / "moved"
    shutil.copytree(study.home, moved, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    shutil.copy(empty_store, moved / "mlflow.db")
    monkeypatch.chdir(moved.parent)
    code, lines, _ = synced(capsys, "--params", "moved/params.yaml")
    assert (code, lines[-1]) == (0, "7 folders logged, 0 already there")
    assert (moved / "mlartifacts").is_dir()


@pytest.mark.parametrize("way", ["params", "environment"])
def test_switched_off_it_says_so(study, capsys, monkeypatch, way):
    study.whole()
    if way == "params":
        params = study.home / "params.yaml"
        params.write_text(params.read_text() + "tracking: off\n")
    else:
        monkeypatch.setenv("PRUNING_TRACKING", "off")
    assert synced(capsys) == (0, ["tracking is off; nothing logged"], "")


def test_without_its_server_it_fails_in_one_line(study, capsys, monkeypatch):
    study.prepared()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, _, errors = synced(capsys)
    assert (code, errors) == (2, "error: MLflow at http://127.0.0.1:9 does not answer\n")


def test_help_imports_neither_torch_nor_mlflow(run_python):
    code = (
        "import sys\nfrom stages import sync\ntry: sync.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sorted({'torch', 'mlflow', 'pydantic', 'pandas', 'dvc'} & sys.modules.keys()))"
    )
    done = run_python(code)
    assert done.stdout.endswith("\n\n") and "--params" in done.stdout


def test_what_another_study_made_goes_to_the_one_whose_folder_it_is_in(study, runs, client, capsys):
    folder = study.prepared()
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "study": "another"}))
    assert synced(capsys)[0] == 0
    assert client.get_experiment_by_name("another") is None
    assert [run.data.tags["study"] for run in runs()] == ["digits"]
