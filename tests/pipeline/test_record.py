"""The record of a real study: what git keeps of it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from stages import compare
from stages.params import read
from stages.params.protocol import Protocol
from stages.records import recorded


def test_a_record_holds_what_every_network_reached_and_where(study):
    assert study.stage("record").stdout == "wrote record: 2 experiments, 0 MLflow runs\n"
    found = recorded.read(study.folder)
    networks = found.results
    assert len(networks) == (1 + 2 * 2) * 2  # dense, two experiments of two rounds, two folds each
    reports = pd.read_csv(study.folder / "reports" / "folds.csv")
    assert list(networks["test_accuracy"]) == list(reports["test_accuracy"])
    assert list(networks["seed"]) == list(networks["fold"])
    history = study.folder / "work" / "at-once" / "round-2" / "tuned" / "fold-1" / "history.csv"
    losses = pd.read_csv(history).query("split == 'validation'").set_index("step")["loss"]
    last = networks.query("experiment == 'at-once' and round == 2 and fold == 1").iloc[0]
    assert last["lowest_loss_step"] == losses.idxmin()
    assert not found.changed
    assert found.facts["reports"] in (study.folder / "dvc.lock").read_text()
    assert found.facts["machine"]["device"] == "cpu"
    assert 1 < found.facts["seconds"] < 1800
    folder = study.folder / "record"
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    study.stage("record")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert set(first) == {"params.yaml", "results.csv", "runs.csv", "record.json"}


def test_reports_that_dvc_does_not_know_are_refused(study):
    path = study.folder / "reports" / "folds.csv"
    kept = path.read_bytes()
    path.unlink()  # DVC may have linked it to its cache
    path.write_bytes(kept.replace(b"at-once", b"at-Once"))
    done = study.stage("record", check=False)
    assert done.returncode == 2
    assert done.stderr == "error: reports are not what dvc.lock holds; run `dvc repro` first\n"


def test_reports_older_than_the_results_are_refused(study):
    path = study.folder / "results" / "at-once" / "round-1" / "manifest.json"
    kept = path.read_bytes()
    path.unlink()
    path.write_text(json.dumps({**json.loads(kept), "key": "another"}))
    done = study.stage("record", check=False)
    assert done.returncode == 2
    assert "results/at-once/round-1 is newer than reports" in done.stderr
    assert not (study.folder / "record").exists()


@pytest.mark.parametrize("papers", [None, Protocol(dataset="MNIST", model="LeNet-300-100")])
def test_compare_sets_a_study_beside_the_papers_where_it_has_a_place(
    finished, tmp_path, monkeypatch, papers
):
    monkeypatch.chdir(finished.folder)
    compare.write(read(Path("params.yaml")).model_copy(update={"papers": papers}), tmp_path)
    text = (tmp_path / "report.md").read_text()
    files = {path.name for path in tmp_path.iterdir()} & {"papers.csv", "papers.png"}
    if papers is None:
        assert "papers" not in text
        assert not files
    else:
        assert "## Beside the papers" in text
        assert "No published result within reach." in text  # rows begin at 91.7 %, ours end at 80
        assert len(files) == 2
