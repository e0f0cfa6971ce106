"""The published rows: every cell checked, names and sparsities met as a reader would type them."""

import csv
import math

import pytest

from pruning.errors import PruningError
from stages.literature.lookup import bracket, canonical, search, sparsities
from stages.literature.published import EVIDENCE, PUBLISHED, family, load


@pytest.fixture(scope="module")
def rows():
    return load()


def spoilt(tmp_path, column, value, row=0):
    """Write the first two rows of the real file with one cell replaced."""
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))[:2]
    lines[row][column] = value
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def test_all_rows_load_with_the_evidence_counted_by_hand(rows):
    assert len(rows) == 911
    counts = rows["family"].value_counts().to_dict()
    assert set(counts) == set(EVIDENCE)
    assert counts["author-raw-data"] == 411
    assert counts["secondary"] == 101
    assert counts["own-digitisation"] == 54


def test_the_first_line_is_han_et_al(rows):
    han = rows.iloc[0]
    assert han["line"] == 2
    assert (han["arxiv"], han["year"]) == ("arXiv:1506.02626", 2015)
    assert (han["sparsity"], han["baseline_acc"], han["pruned_acc"]) == (0.92, 98.36, 98.41)
    assert math.isnan(han["acc_std"])


def test_percentages_become_the_fractions_one_would_type(rows):
    printed = rows.set_index("line")["sparsity_or_ratio"]
    sparsity = rows.set_index("line")["sparsity"]
    assert set(sparsity[printed == "98.2"]) == {0.982}
    assert set(sparsity[printed == "91.7"]) == {0.917}


def test_mode_letters_have_no_sparsity_and_keep_their_letter(rows):
    letters = rows[rows["sparsity_or_ratio"].isin(["A", "B"])]
    assert len(letters) == 6
    assert letters["sparsity"].isna().all()
    assert (letters["family"] == "seed-image").all()


@pytest.mark.parametrize(
    ("method", "paper", "first_hand"),
    [
        ("L-OBS", "Dong", True),
        ("DNS", "Dong", False),
        ("LC (Carreira-Perpinan 2018) as cited by SNIP", "Lee", False),
        ("Sparse VD", "Molchanov", True),
        ("Deep Compression (Han 2015a)", "Ullrich", False),
        ("Soft Weight-Sharing", "Ullrich", True),
        ("Dynamic Network Surgery", "Guo", False),
        ("GReg-1", "Wang H", True),
        ("HRank", "Wang H", False),
        ("HRank as cited", "Fang", False),
        ("SNIP", "Tanaka", True),
    ],
)
def test_a_quoted_number_is_not_first_hand(rows, method, paper, first_hand):
    found = rows[(rows["method"] == method) & rows["paper"].str.startswith(paper)]
    assert len(found)
    assert set(found["first_hand"]) == {first_hand}


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("pruned_acc", "100.5", "0 to 100"),
        ("pruned_acc", "-1", "0 to 100"),
        ("baseline_acc", "nan", "0 to 100"),
        ("params_remaining", "101", "0 to 100"),
        ("sparsity_or_ratio", "100", "below 100"),
        ("sparsity_or_ratio", "A", "seed project"),
        ("sparsity_kind", "weight", "weights"),
        ("evidence", "hearsay", "author-raw-data"),
        ("evidence", "secondaryish", "author-raw-data"),
        ("arxiv", "1506.02626", "arXiv:NNNN.NNNNN"),
        ("arxiv", "arXiv:1506.0262", "arXiv:NNNN.NNNNN"),
        ("year", "15", "1980"),
        ("method", " ", "not empty"),
    ],
)
def test_a_bad_cell_is_named_with_what_is_allowed(tmp_path, column, value, allowed):
    path = spoilt(tmp_path, column, value, row=1)
    with pytest.raises(PruningError) as refused:
        load(path)
    message = str(refused.value)
    assert "\n" not in message
    for part in (str(path), "line 3", f"column {column}", repr(value), allowed):
        assert part in message


@pytest.mark.parametrize(
    ("content", "told"),
    [("method,paper\n", "line 1: columns"), ("", "line 1: columns"), ("\ud800", "cannot be read")],
)
def test_a_file_of_another_shape_is_refused(tmp_path, content, told):
    path = tmp_path / "rows.csv"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(PruningError, match=told):
        load(path)


def test_a_short_line_and_a_missing_file_are_refused(tmp_path):
    path = tmp_path / "rows.csv"
    head = PUBLISHED.read_text(encoding="utf-8").splitlines()[0]
    path.write_text(f"{head}\nonly,three,cells\n")
    with pytest.raises(PruningError, match="line 2: 3 cells"):
        load(path)
    with pytest.raises(PruningError, match="cannot be read"):
        load(tmp_path / "none.csv")


def test_families_are_whole_names():
    assert family("third-party-repro") == "third-party-repro"
    assert family("author-repo of the report") == "author-repo"
    with pytest.raises(PruningError, match="unknown evidence 'authority'"):
        family("authority")


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("0.9:0.99", 0.9, 0.99),
        (":0.5", 0.0, 0.5),
        ("0.9:", 0.9, 1.0),
        ("0.95", 0.9495, 0.9505),
        (":", 0.0, 1.0),
    ],
)
def test_ranges(text, low, high):
    assert sparsities(text) == pytest.approx((low, high))


@pytest.mark.parametrize("text", ["92", "1", "0.9:1", "0.99:0.9", "-0.1", "a:b", "", "nan", "1:"])
def test_no_range(text):
    with pytest.raises(PruningError, match=r"\[0, 1\)"):
        sparsities(text)


def test_search_keeps_both_ends_and_meets_names_however_spelt(rows):
    found = search(rows, dataset="mnist", model="lenet_300_100", sparsity=(0.92, 0.99))
    assert set(found["model"]) == {"LeNet-300-100"}
    assert found["sparsity"].min() == 0.92
    assert found["sparsity"].max() == 0.99
    by_hand = rows[(rows["dataset"] == "MNIST") & (rows["model"] == "LeNet-300-100")]
    assert len(found) == sum(0.92 <= s <= 0.99 for s in by_hand["sparsity"])


def test_search_by_part_of_the_method_and_by_evidence(rows):
    snip = search(rows, dataset="MNIST", model="LeNet-300-100", method="snip")
    assert len(snip) == 13  # seven quoted, two of its own, four initialisations
    assert len(search(snip, first_hand=True)) == 6


def test_an_unknown_name_gets_the_choices_within_what_was_chosen(rows):
    with pytest.raises(PruningError, match="unknown dataset 'NIST'; choose from CIFAR-10,"):
        search(rows, dataset="NIST")
    with pytest.raises(PruningError) as refused:
        search(rows, dataset="sequential MNIST", model="LeNet")
    assert str(refused.value) == (
        "sequential MNIST: unknown model 'LeNet'; choose from GRU-b (256), GRU-s (128), "
        "LSTM-b (256), LSTM-s (128, row-by-row MNIST)"
    )


def test_our_names_for_nets_the_papers_name_otherwise():
    assert canonical("lenet_5", ["LeNet-300-100", "LeNet-5-Caffe"]) == "LeNet-5-Caffe"
    assert canonical("vgg19_bn", ["VGG-19", "VGG-16"]) == "VGG-19"
    assert canonical("resnet32", ["ResNet-32 (double width 32-64-128)"]) == "resnet32"


def test_a_bracket_by_the_logarithm_of_density():
    # densities 1/2 and 1/4; the target's is their geometric mean, so half way
    found = bracket([0.5, 0.75], 1 - math.sqrt(0.125))
    assert (found.low, found.high, found.interpolated) == (0.5, 0.75, True)
    assert found.weight == pytest.approx(0.5)
    # density 0.04 between 0.08 and 0.032: ln 2 / ln 2.5
    assert bracket([0.92, 0.968], 0.96).weight == pytest.approx(0.756471, abs=1e-6)


@pytest.mark.parametrize(
    ("ours", "target", "reached"),
    [
        (0.9214, 0.92, True),  # 0.0014 of a density of 0.08 is 1.75 %
        (0.9220, 0.92, False),  # 2.5 %
        (0.204, 0.2, True),  # 0.5 % of the density
        (0.206, 0.2, False),  # 0.75 % of it, but more than half a point
    ],
)
def test_what_counts_as_the_same_sparsity(ours, target, reached):
    found = bracket([ours], target)
    assert (found is not None) == reached
    assert found is None or not found.interpolated


def test_nothing_is_extrapolated_nor_drawn_across_a_wide_gap():
    assert bracket([], 0.9) is None
    assert bracket([0.5, 0.8], 0.9) is None
    assert bracket([0.95, 0.98], 0.9) is None
    assert bracket([0.5, 0.8], 0.7) is not None  # densities 0.5 and 0.2: a factor of 2.5
    assert bracket([0.5, 0.81], 0.7) is None
