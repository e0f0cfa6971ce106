"""How DVC is asked for checkpoints, exports and times: only where params.yaml lists them."""

import copy
import re

import pytest
import yaml

from .conftest import ROOT, SMALL, new_study

DEFAULT = {"check", "prepare", "pretrain", "evaluate-dense", "compare"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a study that starts from a file and exports one of its two experiments."""
    params = copy.deepcopy(SMALL)
    params["snapshots"] = {}
    params["methods"]["step-by-step"]["rewind"] = "init"
    params["checkpoints"] = [{"n": 0, "file": "given/trained.safetensors"}]
    params["export"] = ["at-once"]
    made = new_study(tmp_path_factory.mktemp("smaller") / "study", params)
    (made.folder / "given").mkdir()
    (made.folder / "given" / "trained.safetensors").write_bytes(b"not looked at in a dry run")
    return made


def edges(study) -> set[tuple[str, str]]:
    """Return which stage needs which: (first, then)."""
    said = study.run("dvc", "dag", "--dot").stdout
    found = re.findall(r'"([^"]+)" -> "([^"]+)"', said)
    assert found, said
    return set(found)


def test_what_is_listed_is_run_and_in_its_place(study):
    found = edges(study)
    assert found >= {
        ("check", "checkpoint@checkpoint0"),
        ("checkpoint@checkpoint0", "pretrain"),
        ("evaluate-dense", "export@at-once"),
        ("evaluate@at-once-round0", "export@at-once"),
        ("evaluate@at-once-round1", "export@at-once"),
        ("export@at-once", "gains@at-once"),
        ("gains@at-once", "compare"),
    }
    # only the report is made from times
    assert [then for first, then in found if first == "gains@at-once"] == ["compare"]
    assert not [each for pair in found for each in pair if each.startswith("export@step")]


def test_nothing_of_it_is_run_where_nothing_is_listed(study):
    before = study.params()
    study.params(lambda params: params.update(checkpoints=[], export=[]))
    try:
        names = {each.partition("@")[0] for pair in edges(study) for each in pair}
    finally:
        study.params(lambda params: params.update(before))
    assert not names & {"checkpoint", "export", "gains"}
    assert names >= DEFAULT


def test_the_code_that_each_of_these_stages_depends_on_is_there():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name in ("checkpoint", "export", "gains", "compare"):
        code = [dep for dep in stages[name]["deps"] if dep.startswith("${code}")]
        assert code
        for dep in code:
            assert (ROOT / dep.removeprefix("${code}/")).exists(), dep
