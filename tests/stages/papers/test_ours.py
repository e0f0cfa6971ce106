"""A study in the papers' terms: its settings, its results beside the rows that it answers."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from pruning.errors import PruningError
from stages.literature import beside_report, ours
from stages.literature.published import load
from stages.params.protocol import Protocol, Row
from stages.records import ranking

SNIP = (0.983, 0.984, 0.985)


@pytest.fixture(scope="module")
def rows():
    return load()


@pytest.mark.parametrize(
    ("papers", "message"),
    [
        ({"methods": {"gradual": "AGP"}}, "papers.methods: 'gradual' is no experiment; choose"),
        ({"seed": {"snip": "l1-c"}}, "'l1-c' is no line of the seed's tables; choose from l1-a"),
        ({"rows": {"snip": [{}]}}, "a row needs a method"),
        (
            {"rankings": [{"arxiv": "x", "model": "y", "methods": {"no": "z"}}]},
            "rankings.0.methods",
        ),
        ({"tilte": "SNIP"}, "Extra inputs are not permitted"),
        ({"sparsity_kind": "flops"}, "'weights', 'params'"),
    ],
)
def test_what_the_section_cannot_mean_is_refused(made, papers, message):
    with pytest.raises(ValidationError, match=message):
        made.params(papers)


def test_a_folder_of_images_names_its_dataset(made):
    with pytest.raises(ValidationError, match=r"papers\.dataset: name it"):
        made.params({}, data={"name": "folder", "root": "images"})
    named = made.params({"dataset": "CIFAR-10 JPEG"}, data={"name": "folder", "root": "images"})
    assert named.papers.dataset == "CIFAR-10 JPEG"


def test_our_results_as_the_comparison_reads_them(made):
    study = made.params()
    dense, rounds = (0.98, 0.981, 0.982), [SNIP, (0.97, 0.971, 0.972)]
    found = ours.results(study, made.folds({"snip": rounds}, dense=dense))
    assert list(found["accuracy"]) == [*SNIP, *rounds[1]]
    assert list(found["dense_accuracy"]) == [*dense, *dense]
    assert set(found["method"]) == {"SNIP, one batch of 100"}
    shared = found[["dataset", "model", "sparsity_kind", "selection"]].drop_duplicates()
    assert shared.values.tolist() == [["MNIST", "lenet_300_100", "weights", "last"]]


def test_a_net_with_settings_of_its_own_is_another_of_the_same_name(made, rows):
    study = made.params(model={"factory": "lenet_300_100", "inputs": 196})
    table = ours.compare(study, made.folds({"snip": [SNIP, SNIP]}), rows)[1]
    assert set(table["verdict"]) == {"not comparable"}
    assert table["reason"].str.contains("another net of the same name").all()
    assert table["reason"].str.contains(r"lenet_300_100 \(inputs 196\)").all()


def test_a_round_that_prunes_no_more_adds_no_network(made):
    stopped = made.folds({"snip": [SNIP, SNIP]}, sparsities=(0.95, 0.95))
    assert len(ours.results(made.params(), stopped)) == 3


def test_an_experiment_shows_the_rows_named_for_it_the_others_all_within_reach(made, rows):
    folds = made.folds({"snip": [SNIP, SNIP], "magnitude": [SNIP, SNIP]})
    _, table, shown = ours.compare(made.params(), folds, rows)
    mine = shown.groupby("experiment")
    assert list(mine.get_group("snip")["method"]) == ["SNIP"] * 2
    assert list(mine.get_group("snip")["verdict"]) == ["reproduced", "better"]
    within = set(mine.get_group("magnitude")["method"])
    assert {"SNIP", "Soft Weight-Sharing"} < within
    assert not any("as cited" in name for name in within)
    assert len(table) == 2 * len(rows[(rows["model"] == "LeNet-300-100")])


def test_a_name_is_whole_where_a_row_bears_it_and_a_beginning_otherwise(rows):
    def methods(name):
        return set(ours.named(rows, [Row(method=name)])["method"])

    assert methods("snip") == {"SNIP"}
    assert methods("LTH iter") == {"LTH iterative magnitude, rewind to init"}
    han = Row(arxiv="arXiv:1506.02626", model="LeNet-300-100")
    two = [Row(method="SNIP", model="LeNet-5-Caffe", sparsity=0.98), han]
    assert set(ours.named(rows, two)["pruned_acc"]) == {99.2, 98.41}


def test_a_row_that_does_not_exist_is_told(rows):
    with pytest.raises(PruningError, match=r"no published row has \{'method': 'SNAP'\}"):
        ours.named(rows, [Row(method="SNAP")])


def test_the_section_of_the_report(made, tmp_path):
    folds = made.folds({"snip": [SNIP, SNIP], "magnitude": [SNIP, (0.5, 0.5, 0.51)]})
    text = beside_report.write(made.params(), folds, tmp_path)
    assert "chosen on validation data: our last epoch. The" in text
    assert "test set was read once for each network" in text
    assert "### snip (SNIP, one batch of 100)\n\n| theirs" in text
    assert "SNIP; Lee 2019 [primary-text]" in text
    assert "-0.10 ± 0.10 [-0.35, 0.15]" in text  # 98.3 to 98.4: sd 0.1, half 4.303 * 0.1 / 3 ** 0.5
    assert "*reproduced*: our whole interval lies within the band" in text
    written = pd.read_csv(tmp_path / "papers.csv")
    assert len(written) == 68
    first = (tmp_path / "papers.png").read_bytes()
    beside_report.write(made.params(), folds, tmp_path)
    assert (tmp_path / "papers.png").read_bytes() == first


def test_a_round_can_be_a_rows_network_whatever_each_counts(made, rows):
    by_flops = {"method": "L1-norm filter pruning, pruned-A", "model": "ResNet-56", "round": 1}
    papers = {"dataset": "CIFAR-10 JPEG", "model": "resnet56", "rows": {"snip": [by_flops]}}
    study = made.params(papers, data={"name": "CIFAR10"})
    folds = made.folds({"snip": [SNIP, SNIP]}, sparsities=(0.1, 0.2))
    _, table, shown = ours.compare(study, folds, rows)
    li, liu = (
        shown[shown["arxiv"] == name].iloc[0] for name in ("arXiv:1608.08710", "arXiv:1810.05270")
    )
    assert (li["sparsity"], li["sparsity_kind"], li["n"]) == (0.104, "flops", 3)
    assert (li["our_drop"], li["by_numbers"]) == (pytest.approx(-0.1), "reproduced")
    assert "their best epoch on the test set" in li["reason"]
    assert "second-hand" in liu["reason"]
    assert "counts" not in li["reason"] + liu["reason"]
    others = table[(table["experiment"] == "snip") & ~table["line"].isin(shown["line"])]
    assert others[others["sparsity_kind"] == "flops"]["n"].eq(0).all()
    assert not table.duplicated(["experiment", "line"]).any()


def test_the_section_of_the_documentation_is_one(made, rows):
    text = (Path(__file__).parents[3] / "docs" / "published.md").read_text()
    section = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S)[1])
    study = made.params(section["papers"], experiments=["snip", "random", "synflow"])
    assert study.papers.model_fields_set == set(Protocol.model_fields)
    (named,) = ours.named(rows, study.papers.rows["snip"]).itertuples()
    assert named.pruned_acc == 98.4
    folds = made.folds({"snip": [SNIP, SNIP], "random": [SNIP, SNIP], "synflow": [SNIP, SNIP]})
    assert ranking.orders(study.papers.rankings[0], folds, rows)
