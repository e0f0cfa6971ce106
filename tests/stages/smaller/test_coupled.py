"""Rounds that ask for a budget: the network that remains costs no more, and hardly less."""

import copy

import pytest
import torch

from pruning import PruningError
from pruning.facts import read_json
from pruning.macs import macs
from pruning.network import load
from pruning.shrinking.shrink_network import shrink
from stages.params import read
from tests.stages import one_fold
from tests.stages.smaller.conftest import SMALLER

EXAMPLE = torch.zeros(2, 1, 8, 8)


def shrunk(network):
    return shrink(network.model, network.masks, EXAMPLE)


@pytest.mark.parametrize(
    ("experiment", "n", "share"), [("groups", 1, 0.6), ("groups", 2, 0.3), ("alone", 1, 0.6)]
)
def test_a_budget_of_multiply_adds_is_met_and_used(inside, experiment, n, share):
    for fold in (0, 1):
        folder = inside.folder / "work" / experiment / f"round-{n}" / "tuned" / f"fold-{fold}"
        network = load(folder)
        left = macs(shrunk(network), EXAMPLE) / macs(network.model, EXAMPLE)
        # one filter of the layer of eight is an eighth of most of the network
        assert share - 0.15 < left <= share
        facts = read_json(folder / "metrics.json")
        assert 0 < facts["target_sparsity"] < 1


def test_filters_go_with_their_norms_in_every_round(inside):
    for n in (1, 2):
        network = load(inside.folder / f"work/groups/round-{n}/tuned/fold-0")
        for layer in ("1", "2", "3"):
            gone = ~network.masks[f"conv{layer}.weight"].flatten(1).any(1)
            assert torch.equal(~network.masks[f"bn{layer}.weight"], gone)
            assert torch.equal(~network.masks[f"bn{layer}.bias"], gone)
    first = load(inside.folder / "work/groups/round-1/tuned/fold-0").masks
    for name, mask in network.masks.items():
        assert not bool((mask & ~first[name]).any())  # nothing came back


def test_the_manifest_names_the_budget_not_what_it_came_to(inside):
    manifest = read_json(inside.folder / "work/groups/round-2/pruned/manifest.json")
    assert manifest["params"]["target"] == {"macs": 0.3}
    assert "target_sparsity" not in manifest["params"]


def test_a_dry_run_counts_filters(inside, capsys):
    from stages.prune import prune

    prune(experiment="groups", round_=1, dry_run=True, params=inside.folder / "params.yaml")
    said = capsys.readouterr().out
    facts = read_json(inside.folder / "work/groups/round-1/pruned/fold-0/metrics.json")
    assert f"target sparsity {facts['target_sparsity']:g}" in said
    masks = load(inside.folder / "work/groups/round-1/pruned/fold-0").masks
    kept = int(masks["conv1.weight"].flatten(1).any(1).sum())
    assert f"{kept} of 8 filters" in said


def test_a_budget_of_parameters_is_met_the_same_way_whatever_is_drawn(inside):
    """A random criterion draws alike for every sparsity that is tried, and in the end."""
    from stages.fold import coupled, masking, samples
    from stages.params.export_params import Budget

    study = read(inside.folder / "params.yaml")
    network = load(inside.folder / "work/dense/fold-0")
    choose = masking.chooser(study, "alone", 0, samples.of_fold(study, 0))
    goal = coupled.sparsity_of(Budget(parameters=0.5), choose, network.model, {})
    smaller = shrink(network.model, choose(network.model, goal), EXAMPLE)
    left, dense = (sum(p.numel() for p in m.parameters()) for m in (smaller, network.model))
    assert 0.35 < left / dense <= 0.5


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Return a study of one fold, in which rows of choices are tried."""
    return one_fold.Study(tmp_path_factory.mktemp("one"), model=SMALLER["model"])


@pytest.mark.parametrize(
    "row",
    [
        {"criterion": "taylor", "coupled": "sum"},
        {"criterion": "magnitude", "coupled": "max", "granularity": "channel"},
        {"criterion": "bn_scale", "coupled": "mean", "skip": ["linear.weight"]},
        {"criterion": "random", "coupled": "mean", "during": "soft"},
        {"criterion": "magnitude", "coupled": "mean", "during": "gradual"},
        {"criterion": "magnitude", "coupled": "mean", "during": "learning_compression"},
        {"criterion": "fpgm", "coupled": "whole", "skip": ["linear.weight"]},
    ],
)
def test_whatever_else_is_chosen_the_network_shrinks(one, row):
    choices = {"granularity": "filter", "allocation": "layerwise", **row}
    finetune = {"resume": "end", "epochs": 1, "learning_rate": {"base": 0.01}}
    one.run({"rewind": "init", "prune": choices, "finetune": finetune}, rounds=2, iterative=True)
    model = shrunk(one.network(2))
    # of 8 and 16 filters a fifth is 1.6 and 3.2, rounded to the nearest
    widths = [model.conv1.out_channels, model.conv2.out_channels, model.conv3.out_channels]
    assert widths == [2, 3, 3]


def change(params, path, value):
    *parents, last = path
    for key in parents:
        params = params[key]
    params[last] = value


PRUNE = ("methods", "groups", "prune")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((*PRUNE, "coupled"), None, "round 1 asks for 60 % of the multiply-adds; that takes"),
        ((*PRUNE, "granularity"), "weight", "coupled: mean needs granularity filter or channel"),
        ((*PRUNE, "allocation"), "erk", "coupled: mean needs allocation global or layerwise"),
        ((*PRUNE, "shuffle"), True, "coupled: mean and shuffle: true exclude each other"),
        ((*PRUNE, "rounds"), 3, "coupled: mean prunes at once, with rounds: 1"),
        ((*PRUNE, "during"), "gradual", "round 1 asks for 60 % of the multiply-adds; that takes"),
        (
            ("methods", "alone", "prune", "round_to"),
            8,
            "coupled: whole takes each filter by itself",
        ),
        (("rounds", 0, "target"), {"macs": 0.5, "latency": 0.5}, "a target is one of macs, param"),
        (("rounds", 0, "target"), {"macs": 0}, "rounds.0.target.macs: 0: input should be greater"),
        (("rounds", 0, "target"), {"flops": 0.5}, "unknown key; choose from macs, parameters, lat"),
        (("rounds", 0, "sparsity"), 0.5, "a round has a sparsity or a target, not both"),
        (("rounds", 1, "target"), {"macs": 0.7}, r"targets \[0.6, 0.7\] must not rise"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path, path, value, message):
    import yaml

    params = copy.deepcopy(SMALLER)
    change(params, path, value)
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(params))
    with pytest.raises(PruningError, match=message) as error:
        read(file)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)
