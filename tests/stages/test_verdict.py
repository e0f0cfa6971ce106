"""The rule and its arithmetic by numbers worked out by hand; our results beside real rows."""

import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.errors import PruningError
from stages.literature.beside import beside, reached
from stages.literature.beside_views import picture, to_markdown
from stages.literature.lookup import search
from stages.literature.published import load
from stages.literature.verdict import Sample, band, between, judge, summarise

T4 = 2.7764451051977987  # Student's t, 97.5 %, 4 degrees of freedom
T2 = 4.302652729911275
NAN = math.nan


@pytest.fixture(scope="module")
def rows():
    return load()


def interval(low, high, n=5):
    return Sample(n, (low + high) / 2, 0.1, low, high)


def ours(*accuracies, sparsity=0.92, dense=0.983, **more):
    """One line a fold of LeNet-300-100 on MNIST at one sparsity; `more` replaces columns."""
    line = {
        "experiment": "imp",
        "method": "magnitude",
        "dataset": "MNIST",
        "model": "lenet_300_100",
        "sparsity": sparsity,
        "sparsity_kind": "weights",
        "dense_accuracy": dense,
        "selection": "last",
    }
    lines = [line | {"fold": fold, "accuracy": a} | more for fold, a in enumerate(accuracies)]
    return pd.DataFrame(lines)


def test_mean_sd_and_interval_of_five():
    # deviations -.2 -.1 0 .1 .2: sum of squares 0.1, sd sqrt(0.1 / 4)
    found = summarise([98.1, 98.2, 98.3, 98.4, 98.5])
    half = T4 * math.sqrt(0.025) / math.sqrt(5)
    assert (found.n, found.mean) == (5, pytest.approx(98.3))
    assert found.sd == pytest.approx(math.sqrt(0.025))
    assert (found.low, found.high) == pytest.approx((98.3 - half, 98.3 + half))


def test_one_value_has_no_interval_and_equal_values_have_an_empty_one():
    single = summarise([98.0])
    assert (single.n, single.mean) == (1, 98.0)
    assert math.isnan(single.sd) and math.isnan(single.low) and math.isnan(single.high)
    same = summarise([98.0, 98.0, 98.0])
    assert (same.sd, same.low, same.high) == (0.0, 98.0, 98.0)


@pytest.mark.parametrize("values", [[], [98.0, NAN], [math.inf]])
def test_no_mean_of_nothing_or_of_what_is_not_a_number(values):
    with pytest.raises(PruningError, match="at least one"):
        summarise(values)


def test_the_sd_between_two_networks_is_interpolated_not_averaged_away():
    # the folds' values half way are all 2: their own sd would be 0
    found = between([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], weights=[0.5, 0.5, 0.5])
    assert (found.mean, found.sd) == (pytest.approx(2.0), pytest.approx(1.0))
    assert found.low == pytest.approx(2.0 - T2 / math.sqrt(3))


def test_the_band():
    assert band(0.14) == 0.28
    assert band(NAN) == 0.3
    assert band(0.0) == 0.3


@pytest.mark.parametrize(
    ("low", "high", "theirs", "sd", "verdict"),
    [
        (98.3, 98.5, 98.41, NAN, "reproduced"),
        (98.11, 98.71, 98.41, NAN, "reproduced"),  # exactly the band's edges
        (98.5, 98.7, 98.41, NAN, "reproduced"),  # above their figure, but within the band
        (98.5, 98.72, 98.41, NAN, "better"),  # leaves the band upwards, excludes the figure
        (98.9, 99.0, 98.41, NAN, "better"),
        (98.05, 98.3, 98.41, NAN, "worse"),
        (97.0, 97.1, 98.41, NAN, "worse"),
        (98.3, 98.8, 98.41, NAN, "not comparable"),  # leaves the band, covers the figure
        (98.0, 98.9, 98.41, NAN, "not comparable"),  # wider than the band
        (98.41, 98.8, 98.41, NAN, "not comparable"),  # touches the figure
        (97.5, 97.9, 97.69, 0.14, "reproduced"),  # 97.41 to 97.97
        (97.7, 98.0, 97.69, 0.14, "better"),
        (97.3, 97.6, 97.69, 0.14, "worse"),
        (10.0, 10.2, 10.0, 0.0, "reproduced"),
    ],
)
def test_the_rule(low, high, theirs, sd, verdict):
    assert judge(interval(low, high), theirs, sd)[0] == verdict


def test_a_single_run_and_a_wide_interval_say_why_nothing_is_claimed():
    assert judge(summarise([98.4]), 98.41) == ("not comparable", "a single run has no interval")
    reason = judge(interval(98.0, 98.9), 98.41)[1]
    assert "[98.00, 98.90]" in reason
    assert "98.41 ± 0.30" in reason


def test_zero_variance_is_judged_like_any_other():
    assert judge(summarise([98.5, 98.5]), 98.41)[0] == "reproduced"
    assert judge(summarise([98.8, 98.8]), 98.41)[0] == "better"


@given(
    st.floats(-5, 5), st.floats(0, 5), st.one_of(st.just(NAN), st.floats(0, 2)), st.integers(2, 9)
)
def test_better_and_worse_are_mirror_images(middle, half, sd, n):
    mirror = {"better": "worse", "worse": "better"}
    above = judge(Sample(n, middle, 0.1, middle - half, middle + half), 0.0, sd)[0]
    below = judge(Sample(n, -middle, 0.1, -middle - half, -middle + half), 0.0, sd)[0]
    assert below == mirror.get(above, above)


def test_han_reproduced_by_hand(rows):
    han = rows.iloc[[0]]
    table = beside(ours(0.982, 0.983, 0.984, 0.985, 0.986), han)
    line = table.iloc[0]
    half = T4 * math.sqrt(0.025) / math.sqrt(5)  # points: 98.2 ... 98.6, mean 98.4
    assert len(table) == 1
    assert (line["our_accuracy"], line["n"]) == (pytest.approx(98.4), 5)
    assert (line["low"], line["high"]) == pytest.approx((98.4 - half, 98.4 + half))
    assert (line["their_drop"], line["our_drop"]) == pytest.approx((-0.05, -0.1))
    assert (line["verdict"], line["reason"], line["band"]) == ("reproduced", "", 0.3)
    assert not line["interpolated"]
    assert line["evidence"] == "primary-pdf"


def test_accuracy_at_their_sparsity_is_interpolated_fold_by_fold(rows):
    # densities 0.16 and 0.04 are too far apart; 0.1 and 0.064 give ln(.1/.08) / ln(.1/.064) = 1/2
    curve = pd.concat([ours(0.984, 0.986, sparsity=0.9), ours(0.982, 0.98, sparsity=0.936)])
    line = beside(curve, rows.iloc[[0]]).iloc[0]
    assert line["interpolated"]
    assert (line["our_low"], line["our_high"]) == (0.9, 0.936)
    assert line["our_accuracy"] == pytest.approx(98.3)
    assert line["our_sd"] == pytest.approx(0.2 / math.sqrt(2))  # 98.4, 98.6 and 98.2, 98.0
    wide = pd.concat([ours(0.984, 0.986, sparsity=0.84), ours(0.98, 0.98, sparsity=0.96)])
    line = beside(wide, rows.iloc[[0]]).iloc[0]
    assert (line["verdict"], line["n"]) == ("not comparable", 0)
    assert line["reason"] == "92 % is not within reach of ours (84, 96 %)"


def test_only_folds_that_reach_the_sparsity_count(rows):
    results = ours(0.984, 0.983, 0.982)
    results.loc[2, "sparsity"] = 0.5
    assert beside(results, rows.iloc[[0]]).iloc[0]["n"] == 2


def cifar(model, *accuracies, **more):
    return ours(*accuracies, dataset="CIFAR-10", model=model, **more)


@pytest.mark.parametrize(
    ("model", "which", "more", "reason"),
    [
        (
            "resnet56",
            {"model": "ResNet-56", "method": "pruned-A", "first_hand": True},
            {"sparsity": 0.104, "sparsity_kind": "flops"},
            "their best epoch on the test set against our last epoch",
        ),
        (
            "resnet20",
            {"model": "ResNet-20", "method": "One-shot magnitude + Learning", "first_hand": True},
            {"sparsity": 0.2},
            "theirs is on 8,000 of the 10,000 test images",
        ),
        (
            "ResNet-32",
            {"model": "ResNet-32 (double width 32-64-128)", "sparsity": (0.9, 0.9)},
            {"sparsity": 0.9},
            "another net of the same name",
        ),
        (
            "resnet56",
            {"model": "ResNet-56", "method": "pruned-A", "first_hand": True},
            {"sparsity": 0.104},
            "theirs counts flops, ours weights",
        ),
        (
            "resnet20",
            {"model": "ResNet-20", "method": "Soft Filter", "sparsity": (0.2, 0.2)},
            {"sparsity": 0.2, "sparsity_kind": "filters"},
            "second-hand: secondary(transcription)",
        ),
        (
            "resnet56",
            {"model": "ResNet-56", "method": "SEED Adoption: L1"},
            {"sparsity": 0.1, "sparsity_kind": "filters"},
            "theirs gives no amount of sparsity (printed: A)",
        ),
    ],
)
def test_what_cannot_be_compared_says_why(rows, model, which, more, reason):
    found = search(rows, dataset="CIFAR-10", **which)
    line = beside(cifar(model, 0.93, 0.932, 0.931, **more), found).iloc[0]
    assert line["verdict"] == "not comparable"
    assert reason in line["reason"]


def test_the_numbers_alone_stay_visible_where_the_figure_is_second_hand(rows):
    dns = search(rows, dataset="MNIST", model="LeNet-300-100", method="DNS (Guo 2016)")
    line = beside(ours(0.985, 0.985, sparsity=0.982), dns).iloc[0]
    assert (line["verdict"], line["by_numbers"]) == ("not comparable", "better")
    assert line["reason"].startswith("their figure is second-hand: quoted by Lee et al., SNIP")


def test_best_epochs_on_the_test_set_compare_with_their_like_only(rows):
    li = search(rows, dataset="CIFAR-10", model="ResNet-56", method="filter pruning, pruned-A")
    li = li[li["first_hand"]]
    flops = {"sparsity": 0.104, "sparsity_kind": "flops"}
    same = cifar("resnet56", 0.931, 0.932, 0.9315, selection="test", **flops)
    assert beside(same, li).iloc[0]["verdict"] == "reproduced"
    han = beside(ours(0.984, 0.984, selection="test"), rows.iloc[[0]]).iloc[0]
    assert "did not choose by the test set" in han["reason"]


def test_recoded_pixels_compare_by_the_change_from_the_own_dense_net(rows):
    synflow = search(
        rows, dataset="CIFAR-10", model="VGG-16-BN (OpenLTH)", method="SynFlow", sparsity=(0.9, 0.9)
    )
    theirs = synflow.iloc[0]  # 93.26 from its own dense net
    change = (theirs["pruned_acc"] - theirs["baseline_acc"]) / 100
    model = "VGG-16-BN (OpenLTH)"
    jpeg = {"dataset": "cifar10-jpeg", "sparsity": 0.9, "dense": 0.80}
    same = ours(*[0.80 + change] * 3, **jpeg | {"model": model})
    line = beside(same, synflow).iloc[0]
    assert (line["judged"], line["verdict"]) == ("drop", "reproduced")
    assert line["our_drop"] == pytest.approx(line["their_drop"])
    less = ours(*[0.80 + change + 0.05] * 3, **jpeg | {"model": model})
    assert beside(less, synflow).iloc[0]["verdict"] == "better"
    more = ours(*[0.80 + change - 0.05] * 3, **jpeg | {"model": model})
    assert beside(more, synflow).iloc[0]["verdict"] == "worse"
    without = synflow.assign(baseline_acc=NAN)
    assert "no dense accuracy" in beside(same, without).iloc[0]["reason"]


def test_reached_finds_the_rows_of_our_net_kind_and_sparsities(rows):
    found = reached(ours(0.98, 0.98), rows)
    assert set(found["model"]) == {"LeNet-300-100"}
    assert set(found["sparsity"]) == {0.92}
    assert len(reached(ours(0.98, 0.98, dataset="digits"), rows)) == 0


def test_another_dataset_or_net_is_no_pair(rows):
    assert len(beside(ours(0.98, 0.98, model="lenet_5"), rows.iloc[[0]])) == 0
    assert len(beside(ours(0.98, 0.98, dataset="FashionMNIST"), rows.iloc[[0]])) == 0


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda frame: frame.drop(columns="selection"), "results lack selection"),
        (lambda frame: frame.assign(accuracy=98.4), "imp: accuracy .*98.4.*fraction"),
        (lambda frame: frame.assign(dense_accuracy=NAN), "imp: dense_accuracy"),
        (lambda frame: frame.assign(fold=0), "imp: fold 0 twice at sparsity 0.92"),
        (lambda frame: frame.assign(selection="luck"), "unknown selection 'luck'; choose from"),
    ],
)
def test_impossible_results_are_refused(rows, spoil, told):
    with pytest.raises(PruningError, match=told):
        beside(spoil(ours(0.984, 0.984)), rows.iloc[[0]])


def test_markdown_states_every_number(rows):
    table = beside(ours(0.982, 0.983, 0.984, 0.985, 0.986), rows.iloc[[0]])
    text = to_markdown(table)
    for part in ("98.36 -> 98.41", "98.30 -> 98.40 ± 0.16", "[98.20, 98.60]", "92 % of weights"):
        assert part in text
    assert "**reproduced**" in text
    assert "No published row" in to_markdown(table.iloc[:0])


def test_a_picture_for_each_net_with_our_means_and_their_points(rows):
    results = pd.concat(
        [
            ours(0.984, 0.986, sparsity=0.9),
            ours(0.98, 0.982, sparsity=0.95),
            ours(0.99, 0.992, sparsity=0.98, model="lenet_5"),
        ]
    )
    theirs = search(rows, dataset="MNIST", kind="weights", sparsity=(0.9, 0.99))
    figure = picture(results, theirs)
    first, second = figure.axes
    assert first.get_title() == "LeNet-300-100 on MNIST"
    assert second.get_title() == "LeNet-5-Caffe on MNIST"
    lines = [container.lines[0] for container in first.containers]
    assert lines[-1].get_xdata() == pytest.approx([0.1, 0.05])
    assert lines[-1].get_ydata() == pytest.approx([98.5, 98.1])
    hollow = [line.get_markerfacecolor() == "none" for line in lines[:-1]]
    numbers = theirs[(theirs["model"] == "LeNet-300-100") & theirs["pruned_acc"].notna()]
    assert len(hollow) == len(numbers)
    assert sum(hollow) == (~numbers["first_hand"]).sum()
    figure.canvas.draw()


def test_a_picture_leaves_collapsed_networks_below_and_shows_the_rest(rows):
    curve = {0.9: 0.98, 0.95: 0.97, 0.98: 0.93, 0.99: 0.83}
    falling = [ours(value, value, sparsity=sparsity) for sparsity, value in curve.items()]
    whole = picture(pd.concat(falling), rows.iloc[:0]).axes[0]
    assert whole.get_ylim()[0] < 83
    collapsed = picture(pd.concat([*falling, ours(0.1, 0.1, sparsity=0.995)]), rows.iloc[:0])
    assert collapsed.axes[0].get_ylim()[0] == pytest.approx(82.5)


def test_our_lines_lie_side_by_side(rows):
    two = pd.concat([ours(0.98, 0.99), ours(0.97, 0.98).assign(experiment="other")])
    first, second = picture(two, rows.iloc[:0]).axes[0].containers
    ratio = second.lines[0].get_xdata()[0] / first.lines[0].get_xdata()[0]
    assert ratio == pytest.approx(1.01)


def test_pictures_need_no_window_system():
    code = (
        "import sys, stages.literature.beside_views; sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
