"""The results page from records made by hand, and the page of this repository from its own."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pruning.errors import PruningError
from stages import results, seed_page
from stages.literature import ours
from stages.literature.published import load
from stages.params import read
from stages.records import claims, ranking, recorded

ROOT = Path(__file__).parents[3]
SNIP = (0.983, 0.984, 0.985)
CLAIM = """\
- text: sparse is better than dense
  source: a paper
  claim: above
  experiment: snip
  sparsity: 0.95
"""


@pytest.fixture
def papers(made, tmp_path):
    """Return a folder with a protocol that was run and one that was not."""
    folds = made.folds({"snip": [SNIP, (0.976, 0.977, 0.978)]})
    made.record(tmp_path / "papers" / "snip", made.params(experiments=["snip"]), folds)
    (tmp_path / "papers" / "snip" / "claims.yaml").write_text(CLAIM)
    gpu = {"epochs": 2, "learning_rate": {"base": 0.1}, "device": "cuda"}
    waiting = made.params({"title": "Later", "published": "On a GPU."}, training=gpu)
    made.record(tmp_path / "papers" / "waiting", waiting)
    return tmp_path / "papers"


def write(papers):
    out = papers.parent / "docs" / "results.md"
    done = CliRunner().invoke(results.app, ["--papers", str(papers), "--out", str(out)])
    return done, out


def cells(text, start):
    """Return the cells of the first table line that begins with `start`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_of_a_record(papers):
    done, out = write(papers)
    assert (done.exit_code, done.stdout.split(": ")[1]) == (0, "1 of 2 protocols were run\n")
    text = out.read_text()
    glance = cells(text, "SNIP on LeNet-300-100")
    assert glance[1:] == ["9", "1 h 2 min", "1 not comparable, 1 reproduced", "-", "1 undecided"]
    assert cells(text, "Later")[1:] == ["not run", *"----"]
    assert "* Fewer epochs." in text
    assert "`cd papers/snip && python -m stages.run && python -m stages.record`" in text
    assert "9 networks, 3 folds, 1 h 2 min on 2 cores of P (device cpu" in text
    assert f"Code at `{'c' * 12}`, reports `{'e' * 12}`, dvc.lock `{'d' * 12}`." in text
    assert "MLflow runs of the experiments: dense `aa`, snip `bb`." in text
    theirs = cells(text, "SNIP; Lee 2019 [primary-text] | 95 %")
    assert theirs[2:5] == ["98.30 -> 98.40", "98.30 -> 98.40 ± 0.10", "3"]
    assert theirs[-1] == "**reproduced**"
    assert cells(text, "1       | 95 %")[-1] == "98.40 ± 0.10"
    assert "+0.10 [-0.15, +0.35] at 95 % (n = 3)" in text
    assert "Not run (device cuda)." in text
    assert "[5 of" not in text
    assert (out.parent / "results" / "snip.png").stat().st_size > 10_000
    assert len((out.parent / "results" / "snip.csv").read_text().splitlines()) > 30


def test_who_is_not_at_the_sparsity_of_its_round_says_at_which(made, tmp_path):
    names = ["snip", "threshold"]
    found = made.folds({"snip": [SNIP, SNIP], "threshold": [SNIP, SNIP]})
    found.loc[(found["experiment"] == "threshold") & (found["round"] == 2), "sparsity"] = 0.9853
    made.record(tmp_path / "papers" / "snip", made.params(experiments=names), found)
    text = write(tmp_path / "papers")[1].read_text()
    assert cells(text, "1       | 95 %")[2:] == ["98.40 ± 0.10", "98.40 ± 0.10"]
    assert cells(text, "2       | 98 %")[2:] == ["98.40 ± 0.10", "98.40 ± 0.10 at 98.53 %"]


def test_the_same_records_give_the_same_bytes(papers):
    _, out = write(papers)
    first = [path.read_bytes() for path in (out, *sorted((out.parent / "results").iterdir()))]
    write(papers)
    assert first == [p.read_bytes() for p in (out, *sorted((out.parent / "results").iterdir()))]


def test_the_rows_on_mnist_are_counted(papers):
    text = write(papers)[1].read_text()
    best = cells(text, "LeNet-300-100 | 98 %")
    assert best[2:] == [
        *("97.60", "SNIP [primary-text]", "97.70 ± 0.10", "[97.45, 97.95]"),
        *("98 %", "snip / snip", "**meets**", "1 of 1"),
    ]
    assert cells(text, "LeNet-300-100 | 99 %")[-2:] == ["**no network**", "0 of 1"]
    assert cells(text, "LeNet-5-Caffe | 98 %")[-1] == "0 of 1"
    met = re.search(r"\* LeNet-300-100: of (\d+) rows .* (\d+) are met", text)
    assert met
    assert int(met[1]) == 25
    assert "* LeNet-5-Caffe: of 26 rows with an accuracy and a share of weights 0 are met" in text


def test_words_may_change_after_a_run_but_settings_are_those_that_ran(papers):
    path = papers / "snip" / "params.yaml"
    words = path.read_text().replace("Fewer epochs.", "Fewer epochs, 2.")
    words = words.replace("One batch at", "A batch at")
    path.write_text(words)
    text = write(papers)[1].read_text()
    assert "A batch at initialisation." in text
    assert "* Fewer epochs.\n" in text  # which is of the run
    path.write_text(words.replace("epochs: 2\n", "epochs: 3\n"))
    text = write(papers)[1].read_text()
    assert "**The settings in the file have changed since.**" in text
    assert "One batch at initialisation." in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("record.json", "{", "record.json: cannot be read"),
        ("record.json", "[]", "record.json: study is missing or of another kind"),
        ("record.json", json.dumps({"study": 3}), "record.json: study is missing"),
        ("results.csv", "", "results.csv: cannot be read as a table"),
        ("results.csv", "experiment,round\n", "results.csv: lacks fold, sparsity, test_accuracy"),
        ("runs.csv", "experiment,run\n", "runs.csv: .* needed: experiment, fold, run_id"),
        ("params.yaml", "study: 3\n", "params.yaml"),
        ("runs.csv", None, "runs.csv: cannot be read"),
    ],
)
def test_half_a_record_is_refused(papers, name, content, message):
    path = papers / "snip" / "record" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(PruningError, match=message):
        recorded.read(papers / "snip")
    done, out = write(papers)
    assert done.exit_code == 2
    assert not out.exists()


def test_a_folder_without_protocols_is_refused(tmp_path):
    done, _ = write(tmp_path)
    assert done.exit_code == 2


def test_the_page_of_this_repository_is_the_one_made_from_its_records():
    papers = ROOT / "papers"
    _, composed = results.compose(results.read_all(papers), load(), papers)
    assert composed == (ROOT / "docs" / "results.md").read_text()
    for path in re.findall(r"\(results/([^)]+)\)", composed):
        assert (ROOT / "docs" / "results" / path).is_file(), path


def test_a_record_fills_its_line_of_the_seeds_tables(made, tmp_path):
    study = made.params({"seed": {"snip": "unstructured-95"}}, experiments=["snip"])
    folds = made.folds({"snip": [SNIP, (0.976, 0.977, 0.978)]})
    made.record(tmp_path / "papers" / "snip", study, folds)
    out = tmp_path / "seed.md"
    arguments = ["--papers", str(tmp_path / "papers"), "--out", str(out)]
    assert CliRunner().invoke(seed_page.app, arguments).exit_code == 0
    line = next(line for line in out.read_text().splitlines() if "`unstructured-95`" in line)
    assert "| 98.30 -> 97.70 ± 0.10 (0.60), n = 3 |" in line


def _name(path):
    return path.parent.name


@pytest.mark.parametrize("path", sorted((ROOT / "papers").glob("*/params.yaml")), ids=_name)
def test_what_a_protocol_of_this_repository_names_is_there(made, path):
    study, rows = read(path), load()
    for choices in study.papers.rows.values():
        ours.named(rows, choices)
    flat = made.folds({name: [(0.9,) * 3] * 2 for name in study.experiments})
    for each in study.papers.rankings:
        ranking.orders(each, flat, rows)
    for claim in claims.read(path.parent / "claims.yaml"):
        claims.evaluate(claim, flat)
