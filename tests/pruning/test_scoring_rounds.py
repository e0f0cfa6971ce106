"""Scores taken anew in rounds, with what is pruned so far at zero."""

import copy

import pytest
import torch
from torch import nn

from pruning import PruningError, prune
from pruning.masks import kept, sparsity
from tests.pruning import zoo


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 10))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    return model


def watching(seen: list[float]):
    def criterion(_model, params, _evidence):
        seen.append(sum(float(p.ne(0).sum()) for p in params.values()) / 400)
        return {name: p.detach().abs() for name, p in params.items()}

    return criterion


def test_each_round_sees_the_masks_of_the_one_before():
    seen = []
    masks = prune(network(), 0.9375, criterion=watching(seen), rounds=4)
    assert seen == [1.0, 0.5, 0.25, 0.125]
    assert kept(masks) == 25


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [("linear", [1.0, 0.8, 0.6]), ({"name": "polynomial", "power": 1.0}, [1.0, 0.8, 0.6])],
)
def test_any_schedule_leads_there(schedule, shares):
    seen = []
    prune(network(), 0.6, criterion=watching(seen), rounds=3, schedule=schedule)
    assert seen == pytest.approx(shares)


def test_rounds_go_on_from_previous_masks():
    model, seen = network(), []
    before = prune(model, 0.5)
    after = prune(model, 0.875, criterion=watching(seen), rounds=2, previous=before)
    assert seen == [0.5, 0.25] and sparsity(after) == 0.875
    assert all((before[name] | ~after[name]).all() for name in before)


def test_the_share_that_previous_masks_pruned_is_one_of_pieces():
    model, seen = network(), []
    before = {name: torch.ones_like(p, dtype=torch.bool) for name, p in model.named_parameters()}
    before = {name: mask for name, mask in before.items() if mask.ndim == 2}
    before["0.weight"][:15] = False
    after = prune(
        model,
        0.875,
        criterion=watching(seen),
        rounds=2,
        granularity="filter",
        previous=before,
        reduce="mean",
    )
    # 15 of 30 filters, then 22 or 23, then 26
    assert sum(int(mask.any(1).sum()) for mask in after.values()) == 4
    assert seen[0] == 250 / 400


def test_the_model_is_left_as_it_was():
    model = network()
    before = copy.deepcopy(model.state_dict())
    prune(model, 0.9, criterion="snip", rounds=5, evidence=_evidence())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def _evidence():
    generator = torch.Generator().manual_seed(0)
    batch = (torch.randn(4, 10, generator=generator),), torch.arange(4)
    return zoo.Evidence([batch], zoo.loss, lambda pair: pair[0])


def test_a_pattern_is_kept_through_rounds():
    masks = prune(network(), 0.75, granularity="2:4", rounds=5)
    assert kept(masks) == 100
    assert masks["2.weight"].reshape(-1, 4).sum(1).le(2).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounds": 0}, "rounds 0 is not a count"),
        ({"rounds": 2.0}, "rounds 2.0 is not a count"),
        ({"rounds": 2, "schedule": "cubic"}, "unknown schedule 'cubic'"),
        ({"rounds": 2, "sparsity": None, "allocation": "threshold"}, "2 rounds need a sparsity"),
        ({"sparsity": None}, "'global' at sparsity None: no sparsity given"),
        ({"sparsity": float("nan")}, r"sparsity nan is outside \[0, 1\)"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(PruningError, match=message):
        prune(network(), **{"sparsity": 0.5, **arguments})
