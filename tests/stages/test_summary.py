"""Means, paired differences and their intervals by hand, and what the report says of them."""

import json

import pandas as pd
import pytest

from pruning.errors import PruningError
from stages.reporting import report, summary

ACCURACIES = {
    ("dense", 0, 0.0): [0.95, 0.95, 0.98],
    ("row", 1, 0.5): [0.90, 0.92, 0.94],
    ("row", 2, 0.8): [0.955, 0.95, 0.98],
    ("random", 1, 0.5): [0.80, 0.85, 0.78],
    ("random", 2, 0.8): [0.60, 0.50, 0.40],
}


def results(folds: int = 3, validation: dict | None = None) -> pd.DataFrame:
    """Return the results of a study by hand, validation equal to test where nothing is said."""
    rows = []
    for (experiment, n, sparsity), values in ACCURACIES.items():
        for fold, value in enumerate(values[:folds]):
            facts = {"target_sparsity": sparsity, "sparsity": sparsity, "test_accuracy": value}
            facts["validation_accuracy"] = (validation or {}).get((experiment, n), value)
            rows.append({"experiment": experiment, "round": n, "fold": fold, **facts})
    return pd.DataFrame(rows)


def row_of(table, experiment, n):
    return table[(table["experiment"] == experiment) & (table["round"] == n)].iloc[0]


def test_mean_deviation_and_both_paired_differences():
    row = row_of(summary.summarise(results(), "random"), "row", 1)
    assert row["folds"] == 3
    assert row["test_accuracy"] == pytest.approx(0.92)
    assert row["test_accuracy_sd"] == pytest.approx(0.02)
    # to dense -0.05, -0.03, -0.04: mean -0.04, sd 0.01; t(2) = 4.30265, 4.30265 * 0.01 / sqrt(3)
    assert row["to_dense"] == pytest.approx(-0.04)
    assert row["to_dense_low"] == pytest.approx(-0.04 - 0.0248413, abs=1e-6)
    assert row["to_dense_high"] == pytest.approx(-0.04 + 0.0248413, abs=1e-6)
    # to the control 0.10, 0.07, 0.16: mean 0.11, sd sqrt(0.0021); 4.30265 * 0.0458258 / sqrt(3)
    assert row["to_control"] == pytest.approx(0.11)
    assert row["to_control_low"] == pytest.approx(-0.0038381, abs=1e-6)
    assert row["to_control_high"] == pytest.approx(0.2238381, abs=1e-6)


def test_two_folds_have_a_wide_interval_and_one_has_none():
    # -0.05 and -0.03: sd 0.0141421; t(1) = 12.7062, over sqrt(2)
    row = row_of(summary.summarise(results(2), None), "row", 1)
    assert row["to_dense_high"] == pytest.approx(-0.04 + 0.127062, abs=1e-6)
    assert row["to_control"] != row["to_control"]
    row = row_of(summary.summarise(results(1), "random"), "row", 1)
    assert row["to_dense"] == pytest.approx(-0.05)
    assert pd.isna([row["to_dense_low"], row["to_dense_high"], row["test_accuracy_sd"]]).all()


def test_results_of_other_folds_cannot_be_paired():
    ours, theirs = pd.Series({0: 0.9, 1: 0.8}), pd.Series({0: 0.9, 2: 0.8})
    with pytest.raises(PruningError, match=r"folds \[0, 1\] and \[0, 2\] differ"):
        summary.paired(ours, theirs)
    # by fold and not by place
    assert summary.paired(ours, ours.iloc[::-1])[0] == 0


def test_the_network_handed_on_is_chosen_by_validation_alone():
    validation = {("dense", 0): 0.95, ("row", 1): 0.945, ("row", 2): 0.93}
    validation |= {("random", 1): 0.7, ("random", 2): 0.6}
    found = summary.summarise(results(validation=validation), "random")
    # round 2 is better on the test set, but more than a point below dense on validation
    assert summary.chosen(found, "row") == 1
    assert summary.chosen(found, "random") == 1
    found = summary.summarise(results(validation=validation | {("row", 2): 0.941}), "random")
    assert summary.chosen(found, "row") == 2


def test_of_its_folds_the_best_by_validation_is_handed_on():
    table = results()
    table.loc[(table["experiment"] == "row") & (table["fold"] == 1), "validation_accuracy"] = 0.99
    assert summary.chosen_fold(table, "row", 1).as_posix() == "results/row/round-1/fold-1"


@pytest.fixture
def study(tiny):
    """Return params of two experiments, one of them the control."""
    rows = {"rewind": {"epoch": 1}, "prune": {}, "finetune": {"epochs": 15}}
    control = {"rewind": "init", "prune": {"criterion": "random"}, "finetune": {"epochs": 1}}
    names = {"experiments": ["row", "random"], "iterative": ["row"], "one_shot": ["random"]}
    return tiny.params(methods={"row": rows, "random": control}, control="random", **names)


def test_a_sparsity_that_training_made_is_told_beside_the_one_asked_for(study):
    table = results()
    table.loc[table["round"] == 1, "sparsity"] = [0.46, 0.47, 0.48, 0.5, 0.5, 0.5]
    table.loc[table["round"] == 2, "sparsity"] = 0.804  # within rounding
    found = summary.summarise(table, study.control)
    text = report.markdown(study, found, {"row": (2, "work/row/round-2/tuned/fold-0")})
    assert "- At 47.00 % sparsity (asked for: 50 %) **row** is ahead with 92.00" in text
    assert "- At 80 % sparsity **row** is ahead" in text


def test_the_sparser_a_network_is_to_be_the_less_may_it_miss_untold(study):
    table = results()
    table.loc[table["round"] == 2, ["target_sparsity", "sparsity"]] = 0.99, 0.987
    found = summary.summarise(table, study.control)
    text = report.markdown(study, found, {"row": (2, "work/row/round-2/tuned/fold-0")})
    assert "- At 98.70 % sparsity (asked for: 99 %) **row** is ahead" in text


def test_who_opens_the_report_alone_reads_what_was_done_and_what_came_out(study):
    found = summary.summarise(results(), study.control)
    text = report.markdown(study, found, {"row": (2, "work/row/round-2/tuned/fold-0")})
    assert "`lenet_300_100` on digits; for each experiment and round 3 networks, one a fold" in text
    assert (
        "trained for 3 epochs in batches of 40 by sgd (momentum 0.9, weight_decay 0.0005), " in text
    )
    assert "- **row**: iterative, single weights by magnitude, global; then fine-tuning, 15" in text
    assert "- **random** (the control): one-shot, single weights by random, global; then" in text
    assert (
        "- At 50 % sparsity **row** is ahead with 92.00 ± 2.00 %, 4.00 points below dense "
        "[-6.48, -1.52], 11.00 points above random [-0.38, +22.38], which may be chance."
    ) in text
    (line,) = [each for each in text.splitlines() if each.startswith("| row") and "50.00" in each]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:5] == ["row", "1", "50.00", "92.00 ± 2.00", ""]
    assert cells[5:] == ["-4.00 [-6.48, -1.52]", "+11.00 [-0.38, +22.38]"]
    for picture in ("accuracy.png", "layers.png"):
        assert f"]({picture})" in text
    assert "- row: round 2, sparsity 80.00 %, `work/row/round-2/tuned/fold-0`" in text


def test_every_recovery_has_its_words(tiny):
    from stages.reporting import wording

    cases = {
        ("init", "rewound", "start"): "training from the weights of the initialisation",
        ("best", "rewound", "start"): "training from the weights of the best epoch",
        ("step 5", "rewound", "rewound"): "rewinding of weights and learning rate to step 5",
        ("epoch 1", "final", "rewound"): "learning-rate rewinding to epoch 1",
        ("init", "reinitialised", "start"): "training from fresh weights (kaiming)",
        ("init", "reinitialised", "rewound"): "weights reinitialised, learning rate from rewound",
    }
    for (rewind, weights, resume), words in cases.items():
        kind, _, at = rewind.partition(" ")
        point = {kind: int(at)} if at else kind
        finetune = {"weights": weights, "resume": resume, "initialization": "kaiming"}
        study = tiny.params({"rewind": point, "finetune": finetune})
        assert wording.experiments(study).endswith(f"; then {words}.")


def test_curves_are_a_column_an_experiment():
    table = summary.curves(summary.summarise(results(1), None))
    lines = ["sparsity,row,random", "0.5,0.9,0.8", "0.8,0.955,0.6"]
    assert table.to_csv(index=False).split() == lines


def test_metrics_are_by_experiment_and_round():
    from stages.compare import _metrics

    metrics = json.loads(json.dumps(_metrics(summary.summarise(results(1), "random"))))
    assert metrics["row"]["round-2"] == {"sparsity": 0.8, "test_accuracy": 0.955}
    assert metrics["dense"]["round-0"]["test_accuracy"] == 0.95
