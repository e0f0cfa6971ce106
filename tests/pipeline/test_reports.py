"""What compare leaves: the same numbers in the table, DVC's metrics and plots, and the report."""

import json
import re
import sys

import pandas as pd
import pytest


def accuracies(study, experiment, n):
    """Return the test accuracies that the evaluate stage wrote, by fold."""
    folder = study.folder / "results" / experiment / f"round-{n}"
    files = sorted(folder.glob("fold-*/metrics.json"))
    return pd.Series([json.loads(path.read_text())["test_accuracy"] for path in files])


def test_the_table_holds_what_was_evaluated(finished):
    table = pd.read_csv(finished.folder / "reports" / "accuracy.csv")
    assert len(table) == 1 + 2 * 2
    dense = accuracies(finished, "dense", 0)
    for row in table.itertuples():
        found = accuracies(finished, row.experiment, row.round)
        assert row.folds == len(found) == 2
        assert row.test_accuracy == pytest.approx(found.mean())
        assert row.test_accuracy_sd == pytest.approx(found.std())
        assert row.to_dense == pytest.approx((found - dense).mean())
    pruned = table[table["experiment"] != "dense"].set_index(["experiment", "round"])
    sparsities = pruned["sparsity"].to_dict()
    assert sparsities["step-by-step", 2] == pytest.approx(0.8, abs=5e-4)
    layers = pd.read_csv(finished.folder / "reports" / "layers.csv")
    kept = layers.groupby(["experiment", "round", "fold"])[["kept", "weights"]].sum()
    found = (1 - kept["kept"] / kept["weights"]).groupby(level=[0, 1]).mean().to_dict()
    assert found == pytest.approx(sparsities)


def test_dvc_shows_the_same_metrics(finished):
    shown = json.loads(finished.run("dvc", "metrics", "show", "--json").stdout)
    metrics = shown[""]["data"]["reports/metrics.json"]["data"]
    for name, rounds in metrics.items():
        for n, measures in rounds.items():
            found = accuracies(finished, name, n.removeprefix("round-"))
            assert measures["test_accuracy"] == pytest.approx(found.mean())
    assert metrics.keys() == {"dense", "step-by-step", "at-once"}


def test_dvc_plots_a_line_an_experiment_and_the_pictures(finished):
    shown = json.loads(finished.run("dvc", "plots", "show", "--json").stdout)
    assert not shown.get("errors")
    (plot,) = shown["data"]["test accuracy against sparsity"]
    points = plot["content"]["data"]["values"]
    assert {point["field"] for point in points} == {"step-by-step", "at-once"}
    table = pd.read_csv(finished.folder / "reports" / "accuracy.csv")
    expected = table[table["experiment"] != "dense"]["test_accuracy"]
    drawn = sorted(float(point["dvc_inferred_y_value"]) for point in points)
    assert drawn == pytest.approx(sorted(expected))
    assert {"reports/accuracy.png", "reports/layers.png"} <= shown["data"].keys()
    finished.run("dvc", "plots", "show", "--out", "plots")
    page = (finished.folder / "plots" / "index.html").read_text()
    assert "test accuracy against sparsity" in page
    assert "reports_accuracy.png" in page


def test_every_picture_of_the_report_is_there(finished):
    reports = finished.folder / "reports"
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", (reports / "report.md").read_text())
    assert pictures == ["accuracy.png", "iterative.png", "layers.png"]
    for name in pictures:
        assert (reports / name).read_bytes().startswith(b"\x89PNG")


def test_a_report_that_is_not_tracked_imports_no_torch(study):
    done = study.run(sys.executable, "-X", "importtime", "-m", "stages.compare")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "matplotlib" in imported
    assert "torch" not in imported
