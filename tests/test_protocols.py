"""The protocols in papers/: each is checked, and those for a GPU go two steps on a tiny subset."""

import json
import re
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from stages import command
from stages.files import result
from stages.params import read

ROOT = Path(__file__).parents[1]
PAPERS = ROOT / "papers"
NAMES = sorted(path.parent.name for path in PAPERS.glob("*/params.yaml"))
SHARED = ROOT.parent / "shared" / "data"
JPEG = SHARED / "cifar10-jpeg.tar.xz"
A_CLASS = {"train": 2, "test": 1}


def content(name: str) -> dict:
    return yaml.safe_load((PAPERS / name / "params.yaml").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_a_protocol_is_a_study_of_its_own_name_that_says_where_it_departs(name):
    study = read(PAPERS / name / "params.yaml")
    assert study.study == name
    assert study.papers.published and study.papers.departures
    assert set(study.papers.methods) == set(study.experiments)


@pytest.mark.parametrize("name", NAMES)
def test_its_stages_are_the_root_s(name):
    assert (PAPERS / name / "dvc.yaml").readlink() == Path("../../dvc.yaml")
    assert (PAPERS / name / content(name)["code"]).resolve() == ROOT


def test_the_page_lists_every_protocol():
    listed = re.findall(r"`([a-z0-9-]+-\d*[a-z0-9-]*)`", (PAPERS / "README.md").read_text())
    assert sorted(set(listed) & set(NAMES)) == NAMES


def test_a_ticket_loses_a_fifth_of_what_is_left_each_round():
    rounds = content("lottery-2019-lenet-300-100")["rounds"]
    assert [entry["sparsity"] for entry in rounds] == pytest.approx(
        [1 - 0.8**n for n in range(1, 20)], abs=5e-5
    )


def on_a_gpu() -> list[str]:
    return [name for name in NAMES if content(name)["training"].get("device") == "cuda"]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Return a folder with the first images of each class."""
    if not JPEG.is_file():
        pytest.skip(f"{JPEG.name} is not beside the checkout")
    folder, taken = tmp_path_factory.mktemp("images"), {}
    with tarfile.open(JPEG) as archive:
        for member in archive:
            place = Path(member.name).parts[-3:]
            seen = taken.setdefault(place[:2], []) if member.isfile() else []
            if member.isfile() and len(seen) < A_CLASS[place[0]]:
                seen.append(place)
                path = folder.joinpath(*place)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.extractfile(member).read())
            if len(taken) == 20 and all(len(s) == A_CLASS[p] for (p, _), s in taken.items()):
                break
    return folder


def shortened(name: str, images: Path) -> dict:
    """Return a protocol of two epochs of two steps each, on the CPU."""
    params = content(name)
    digits = params["data"]["name"] == "MNIST"
    params["data"] |= {"root": str(SHARED), "limit": 20} if digits else {"root": str(images)}
    params["cross_validation"]["repeats"] = 1
    params["training"] |= {"device": "cpu", "epochs": 2, "batch_size": 5, "compile": None}
    params["training"]["learning_rate"]["base"] = 0.001  # batches of 5 bear no more
    params["snapshots"] = {"epochs": [1]} if params["snapshots"] else {}
    params["rounds"] = params["rounds"][:1]
    params["tracking"] = False
    for method in params["methods"].values():
        if "epoch" in method["rewind"]:
            method["rewind"] = {"epoch": 1}
        if "epochs" in method["finetune"]:
            method["finetune"]["epochs"] = 1
        if "batch_size" in method["finetune"]:
            method["finetune"]["batch_size"] = 5
        if method["prune"].get("during", {}).get("name") == "learning_compression":
            params["rounds"][0]["sparsity"] = 0.9  # two steps leave some layer nothing at 99 %
        if "begin" in method["prune"].get("during", {}):
            method["prune"]["during"] |= {"begin": 0, "end": 1}
        if "isometry" in method["finetune"]:
            method["finetune"]["isometry"]["steps"] = 2
        method["prune"] |= {"rounds": min(method["prune"].get("rounds", 1), 2)}
        method["prune"] |= {"evidence": {"batches": 1, "batch_size": 10}}
    return params


@pytest.fixture(scope="module")
def warm() -> None:
    """Let torch import here what it imports at a first step, not in every process of a stage."""
    import torch

    weight = torch.zeros(1, requires_grad=True)
    torch.optim.SGD([weight], lr=0.1).zero_grad()


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("name", on_a_gpu())
def test_two_steps_of_what_needs_a_gpu(name, images, tmp_path, monkeypatch):
    from stages.evaluate import evaluate
    from stages.finetune import finetune
    from stages.prepare import prepare
    from stages.pretrain import pretrain
    from stages.prune import prune
    from stages.snapshot import snapshot

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "die_with_parent", lambda: None)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(shortened(name, images)))
    study = read(path)
    prepare(path)
    pretrain(params=path)
    for experiment in study.experiments[:1]:  # the others differ by a row that other tests run
        snapshot(experiment, params=path)
        for stage in (prune, finetune, evaluate):
            stage(experiment, 1, params=path)
        folder = result(experiment, 1) / "fold-0"
        found = json.loads((folder / "metrics.json").read_text())
        assert 0 <= found["test_accuracy"] <= 1
        assert found["recovery_steps"] in (2, 4)
    sparsities = [entry["sparsity"] for entry in content(name)["rounds"]]
    assert all(low < high for low, high in pairwise(sparsities))
