"""Published counts that need no training, and the table of them in this repository."""

from pathlib import Path

import pandas as pd
import pytest

from pruning.errors import PruningError
from stages import counts
from stages.literature.published import load
from stages.records import results_counts

TABLE = Path(__file__).parents[3] / "papers" / "counts.csv"


@pytest.fixture(scope="module")
def committed():
    return pd.read_csv(TABLE)


def lines(table):
    return pd.DataFrame(table).reset_index(drop=True)


def test_the_weights_of_snip_are_those_of_the_table(committed):
    found = lines(counts.weights(load()))
    expected = committed[committed["method"] == "SNIP"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found[list(expected)], expected, check_dtype=False)
    by = found.set_index("model")
    # 14,710,464 in the convolutions of VGG-16, 512 x 512 in a hidden layer, 512 x 10 at the end
    assert by.loc["VGG-D", "dense"] == 14_710_464 + 2 * 512 * 512 + 5120
    assert by.loc["VGG-D", "ours"] == round(0.05 * 15_239_872)
    assert list(found[~found["agrees"]]["model"]) == ["WRN-16-8"]  # printed: 10.0M -> 548k


def test_a_network_of_li_is_shrunk_to_the_printed_share(committed):
    found = lines(counts.filters(load(), only="li-2017-vgg16-a"))
    expected = committed[committed["model"] == "VGG-16"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found[list(expected)], expected, check_dtype=False)
    assert list(found["published"]) == ["36 %", "65.8 %"]
    assert list(found["left"].round(1)) == [36.0, 65.8]


def test_the_part_of_the_page(tmp_path):
    text = results_counts.section(TABLE)
    assert "19 of 20 agree" in text
    assert "14,987,722 -> 5,397,034 (36.01 %)" in text
    assert results_counts.section(tmp_path / "none.csv") == ""
    (tmp_path / "half.csv").write_text("method,model\n")
    with pytest.raises(PruningError, match=r"half\.csv: columns method, model; needed: method"):
        results_counts.section(tmp_path / "half.csv")
