"""Code of one's own that params.yaml names: what is listed, and who uses it."""

import json
import shutil

import pytest

from pruning.errors import PruningError
from stages import check, files, finetune, own_code, snapshot
from stages.params import own_code as listing

CRITERION = {"criterion": {"name": "mine.scores:by_size", "power": 2}}


@pytest.fixture
def modules(tmp_path):
    """Return a folder of modules that import each other in all ways."""
    contents = {
        "mine/__init__.py": "",
        "mine/scores.py": "from . import signs\nimport numpy\n",
        "mine/signs.py": "def later():\n    from mine.deep.roots import root\n",
        "mine/deep/__init__.py": "",
        "mine/deep/roots.py": "from ..other import x\n",
        "mine/other.py": "import mine.scores  # a circle\n",
        "mine/alone.py": "",
        "broken.py": "def (:\n",
    }
    for name, text in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path, sorted(contents)


def test_what_a_named_module_imports_is_used_too_and_nothing_else(modules):
    folder, listed = modules
    used = listing.used(CRITERION, listed, folder)
    assert used == sorted(set(listed) - {"mine/alone.py", "broken.py"})


def test_only_listed_files_are_looked_at(modules):
    folder, _ = modules
    assert listing.used(CRITERION, ["mine/scores.py"], folder) == ["mine/scores.py"]
    assert listing.used(CRITERION, ["mine/alone.py"], folder) == []
    assert listing.used({"name": "magnitude"}, ["mine/scores.py"], folder) == []


def test_a_file_that_python_cannot_read_is_used_as_it_is(modules):
    folder, _ = modules
    assert listing.used({"factory": "broken:net"}, ["broken.py"], folder) == ["broken.py"]


ROW = {"prune": {"criterion": "my_scores:mine"}}


@pytest.fixture
def mine(tiny):
    """Return the tiny study, a criterion of one's own beside its params.yaml."""
    (tiny.home / "my_scores.py").write_text("def mine(model, params, evidence): ...\n")
    return tiny


def test_a_file_that_is_named_and_not_listed_is_refused(mine):
    with pytest.raises(PruningError, match=r"own_code: .* lacks my_scores\.py, .* of methods.row;"):
        mine.params(ROW)
    with pytest.raises(PruningError, match=r"lacks nets/__init__\.py, the nets of model;"):
        (mine.home / "nets").mkdir()
        (mine.home / "nets" / "__init__.py").write_text("")
        mine.params(model={"factory": "nets:small"})
    assert mine.params(ROW, own_code=["my_scores.py"]).own_code == ["my_scores.py"]


def test_a_module_that_is_installed_or_ours_is_not_asked_for(tiny):
    tiny.params({"prune": {"criterion": "their_package:scores"}})
    (tiny.home / "pruning").mkdir()
    (tiny.home / "pruning" / "scores.py").write_text("")
    tiny.params({"prune": {"criterion": "pruning.scores:scores"}})


@pytest.mark.parametrize(
    "file", ["../mine.py", "/mine.py", "a b.py", "$(touch x).py", "-m.py", "mine", "a//b.py", ""]
)
def test_what_is_no_file_beside_params_yaml_is_refused(tiny, file):
    with pytest.raises(PruningError, match=r"own_code\.0: .* is no file of Python beside params"):
        tiny.params(own_code=[file])


def noted(path):
    return json.loads(path.read_text())


def test_the_dense_network_and_each_experiment_have_what_they_use_of_it(mine, monkeypatch):
    monkeypatch.syspath_prepend(mine.home)
    (mine.home / "own_rates.py").write_text("def rate(epoch, epochs): return 1.0\n")
    training = mine.settings("training", learning_rate={"base": 0.1, "name": "own_rates:rate"})
    study = mine.params(ROW, training=training, own_code=["my_scores.py", "own_rates.py"])
    with pytest.raises(PruningError, match=r"my_scores\.py: not there; run `dvc repro` or `python"):
        own_code.note({}, study.own_code, files.TRAINING_CODE)
    for file in study.own_code:
        own_code.own_code(file)
    own_code.own_code(None)
    assert noted(files.TRAINING_CODE).keys() == {"own_rates.py"}
    mine.dense(study)
    facts = {"study": "tiny", "key": "k"}
    (files.DENSE / "manifest.json").write_text(json.dumps(facts))
    for fold in (1, 2):
        shutil.copytree(files.DENSE / "fold-0", files.DENSE / f"fold-{fold}")
    snapshot.snapshot("row")
    first = noted(files.code_of("row"))
    assert first.keys() == {"my_scores.py", "own_rates.py"}
    (mine.home / "my_scores.py").write_text("def mine(model, params, evidence): return {}\n")
    own_code.own_code("my_scores.py")
    own_code.own_code(None)
    snapshot.snapshot("row")
    assert {
        file for file, digest in noted(files.code_of("row")).items() if digest != first[file]
    } == {"my_scores.py"}


def test_training_refuses_a_file_that_was_not_noted_for_dvc(mine, monkeypatch, capsys):
    monkeypatch.syspath_prepend(mine.home)
    (mine.home / "tuning.py").write_text("def rate(epoch, epochs): return 1.0\n")
    listed = ["my_scores.py", "tuning.py"]
    study = mine.params(ROW, own_code=listed)
    for file in listed:
        own_code.own_code(file)
    own_code.note(ROW, listed, files.code_of("row"))
    own_code.check_noted(study.method("row").finetune.model_dump(), listed, "row")
    tuned = {"learning_rate": {"base": 0.1, "name": "tuning:rate"}}
    mine.params({**ROW, "finetune": tuned}, own_code=listed)
    with pytest.raises(SystemExit) as ended:
        finetune.finetune("row", 1)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: work/row/own_code.json: without tuning.py, which row names by now; run "
        "`dvc repro --force --single-item snapshot@row` first\n"
    )
    own_code.note([ROW, tuned], listed, files.code_of("row"))
    own_code.check_noted(tuned, listed, "row")


def test_a_file_that_is_listed_and_not_there_is_told_before_anything_runs(tiny, capsys):
    tiny.params(own_code=["gone.py"])
    with pytest.raises(SystemExit):
        check.check()
    said = "error: params.yaml: own_code: there is no file 'gone.py' here\n"
    assert capsys.readouterr().err == said


def test_a_file_that_is_not_listed_is_not_copied(tiny, capsys):
    tiny.params()
    with pytest.raises(SystemExit):
        own_code.own_code("other.py")
    assert capsys.readouterr().err == (
        "error: params.yaml: unknown file of own_code 'other.py'; choose from none\n"
    )
