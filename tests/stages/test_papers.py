"""The command line of the published rows, and the pages made from them."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from pruning.errors import PruningError
from stages.literature.published import load
from stages.papers import app
from stages.results import read_all
from stages.seed_page import answers, page

ROOT = Path(__file__).parents[2]


def ask(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_the_command_of_the_documentation():
    done = ask("--dataset", "MNIST", "--model", "LeNet-300-100", "--sparsity", "0.9:0.99")
    assert done.exit_code == 0
    table, sources = done.stdout.split("\n\n", 1)
    assert len(table.splitlines()) == 2 + 27
    han = next(line for line in table.splitlines() if "threshold = q x layer std" in line)
    assert han.split()[-6:] == ["0.92", "weights", "98.36", "98.41", "-", "primary-pdf"]
    quoted = next(line for line in table.splitlines() if "DNS (Guo 2016) as cited" in line)
    assert quoted.endswith("primary-text, not first-hand")
    assert "[1] Han et al., Learning both Weights" in sources
    assert "arXiv:1506.02626: Table 1 + Table 2" in sources
    assert "27 of 34 rows" in done.stderr
    assert "5 rows give no amount" in done.stderr


def test_csv_is_the_same_rows_and_nothing_else():
    asked = ("--dataset", "mnist", "--model", "lenet_300_100", "--sparsity", "0.98")
    done = ask(*asked, "--format", "csv")
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["method"], row["pruned_acc"]) for row in found] == [("SNIP", "97.6")]
    assert found[0]["evidence"] == "primary-text"
    assert found[0]["sparsity"] == "0.98"


def test_only_first_hand():
    done = ask("--model", "LeNet-5-Caffe", "--evidence", "first-hand", "--format", "csv")
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    assert found
    assert {row["first_hand"] for row in found} == {"True"}
    assert {row["method"] for row in found} & {"DNS", "SNIP", "L-OBS"} == {"SNIP", "L-OBS"}


def test_flops_are_said_not_to_be_weights():
    done = ask("--model", "ResNet-56", "--method", "pruned-A", "--sparsity", "0.1:0.11")
    assert "rows count FLOPs removed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--dataset", "NIST"), "unknown dataset 'NIST'; choose from CIFAR-10"),
        (("--model", "LeNet"), "unknown model 'LeNet'; choose from"),
        (("--evidence", "good"), "unknown evidence 'good'; choose from first-hand, all"),
        (("--format", "xml"), "unknown format 'xml'; choose from table, csv"),
        (("--kind", "bits"), "unknown sparsity_kind 'bits'"),
        (("--method", "zzz", "--dataset", "MNIST"), "MNIST: unknown method 'zzz'; choose from"),
        (("--sparsity", "92"), "sparsity '92': a fraction in [0, 1)"),
        (("--file", "nowhere.csv"), "nowhere.csv: cannot be read"),
    ],
)
def test_a_refusal_is_one_line_and_exit_code_2(arguments, told):
    done = ask(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr


def test_no_row_at_a_sparsity_tells_the_published_ones():
    done = ask("--dataset", "MNIST", "--model", "LeNet-5-Caffe", "--sparsity", "0.1:0.2")
    assert done.exit_code == 0
    assert "published sparsities: 0.9167, 0.917, 0.92" in done.stderr


def test_help_needs_neither_pandas_nor_torch():
    code = (
        "import sys; from stages.papers import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'pandas', 'torch', 'scipy', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0
    assert b"--sparsity" in done.stdout


def test_the_seed_page_in_the_repository_is_the_one_made_from_rows_and_records():
    ours = answers(read_all(ROOT / "papers"))
    assert (ROOT / "docs" / "seed.md").read_text(encoding="utf-8") == page(load(), ours)


def test_the_seed_page_tells_its_figure_the_cited_the_true_and_ours():
    experiment = {"method": "L1", "dataset": "cifar10-jpeg", "model": "resnet110"}
    results = pd.DataFrame(
        [
            experiment
            | {"experiment": "soft-10", "fold": fold, "sparsity": sparsity}
            | {"accuracy": accuracy, "dense_accuracy": 0.9}
            for fold, accuracy in ((0, 0.891), (1, 0.893))
            for sparsity in (0.0, 0.1)
        ]
    )
    lines = page(load(), results).splitlines()
    cells = next(line for line in lines if "`soft-10`" in line).split("|")
    # mean of 89.1 and 89.3, sample sd 0.2 / sqrt(2)
    assert [cell.strip() for cell in cells[4:8]] == [
        "94.24 -> 94.10 (0.14)",
        "93.68 ± 0.32",
        "93.68 -> 93.83 ± 0.19 (-0.15) [secondary(transcription)]",
        "90.00 -> 89.20 ± 0.14 (0.80), n = 2",
    ]
    assert "wrong: 93.68" in cells[9]
    assert sum("`resnet50-" in line for line in lines) == 12


def test_the_seed_page_refuses_rows_that_no_longer_hold_its_figures():
    rows = load()
    without = rows[rows["method"] != "SEED Adoption: Network slimming"]
    with pytest.raises(PruningError, match="0 match"):
        page(without)
