"""Worked by hand on y = w . x with the loss (y - t)^2 / 2 and w = (2, -3).

Batch one, x = (1, 2), t = 10: y - t = -14, gradient (-14, -28).
Batch two, x = (3, 0), t = 0: y - t = 6, gradient (18, 0).
"""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from pruning import Evidence, PruningError, classification, prune, score

BATCHES = [(torch.tensor([[1.0, 2.0]]), 10.0), (torch.tensor([[3.0, 0.0]]), 0.0)]


def line() -> nn.Module:
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, -3.0]]))
    return model


def squares(batches: Sequence[tuple[Tensor, float]] = BATCHES) -> Evidence:
    def loss(model: nn.Module, batch: tuple[Tensor, float]) -> Tensor:
        return 0.5 * (model(batch[0]) - batch[1]).square().sum()

    return Evidence(batches, loss, lambda batch: (batch[0],))


def scored(criterion, **kwargs) -> list[float]:
    return score(line(), criterion, evidence=squares(), **kwargs)["weight"].flatten().tolist()


def images(batches: int = 2, examples: int = 6) -> Evidence:
    generator = torch.Generator().manual_seed(5)
    return classification(
        [
            (
                torch.randn(examples, 3, 6, 6, generator=generator),
                torch.randint(4, (examples,), generator=generator),
            )
            for _ in range(batches)
        ]
    )


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Flatten(), nn.Linear(128, 4)),
    )


def test_snip_takes_the_absolute_value_after_the_sum_over_batches():
    # summed gradient (4, -28); before the sum it would be 28 + 36 = 64 for the first weight
    assert scored("snip") == [8, 84]
    assert scored({"name": "snip", "batches": 1}) == [28, 84]


def test_gradient_ranked_keeps_the_sign():
    assert scored("gradient_ranked") == [8, 84]
    assert scored({"name": "gradient_ranked", "batches": 1}) == [-28, 84]


def test_taylor_averages_the_squares_of_batches():
    # batch one (28^2, 84^2), batch two (36^2, 0)
    assert scored("taylor") == [(784 + 1296) / 2, 7056 / 2]


def test_taylor_of_a_filter_is_the_sum_of_squares_and_its_gate_the_square_of_the_sum():
    assert scored("taylor", granularity="filter") == [1040 + 3528]
    gate = {"name": "taylor", "gate": "filter"}
    assert scored(gate, granularity="filter") == [((-28 + 84) ** 2 + 36**2) / 2]


def test_obd_is_half_the_squared_weight_times_the_mean_squared_gradient():
    assert scored("obd") == [4 * (196 + 324) / 2 / 2, 9 * 784 / 2 / 2]


def test_grasp_is_the_weight_times_the_hessian_times_the_gradient():
    # Hessian ((10, 2), (2, 4)) on (4, -28) is (-16, -104)
    assert scored({"name": "grasp", "temperature": 1.0}) == [-32, 312]


def test_grasp_divides_the_output_by_its_temperature():
    # at 2: Hessian ((2.5, .5), (.5, 1)) on (-1.5, -12) is (-9.75, -12.75)
    assert scored({"name": "grasp", "temperature": 2.0}) == [-19.5, 38.25]


def test_grasp_keeps_more_gradient_flow_than_pruning_by_its_opposite():
    model, evidence = network(), images()

    def flow(criterion) -> float:
        pruned = copy.deepcopy(model).eval()
        masks = prune(model, 0.5, criterion=criterion, evidence=evidence)
        with torch.no_grad():
            for name, mask in masks.items():
                pruned.get_parameter(name).mul_(mask)
        loss = sum(evidence.loss(pruned, batch) for batch in evidence.batches)
        slopes = torch.autograd.grad(loss, [pruned.get_parameter(name) for name in masks])
        return sum(
            float((s * m).square().sum()) for s, m in zip(slopes, masks.values(), strict=True)
        )

    kept = {"name": "grasp", "training": False, "temperature": 1.0}
    assert flow(kept) > flow({"name": "inverted", "of": kept})


@pytest.mark.parametrize("criterion", ["snip", "taylor", "obd", "gradient_ranked", "grasp"])
def test_the_model_is_left_as_it_was(criterion):
    model = network()
    model[3].eval()
    model[5].weight.grad = torch.ones_like(model[5].weight)
    before = copy.deepcopy(model)
    global_noise = torch.random.get_rng_state()
    prune(model, 0.5, criterion=criterion, evidence=images())
    for name, value in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert model[0].weight.grad is None and model[5].weight.grad.eq(1).all()
    assert not model._forward_hooks
    assert torch.equal(torch.random.get_rng_state(), global_noise)


@pytest.mark.parametrize("criterion", ["snip", "taylor", "obd", "gradient_ranked", "grasp"])
def test_same_evidence_gives_the_same_scores(criterion):
    first, second = (score(network(), criterion, evidence=images()) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("criterion", ["snip", "grasp", "jacobian", "synflow", "apoz"])
def test_gradients_are_taken_under_no_grad_too(criterion):
    with torch.no_grad():
        scores = score(network(), criterion, evidence=images(), granularity="filter", skip=["5.*"])
    assert scores["0.weight"].ne(0).any() and not scores["0.weight"].requires_grad


@pytest.mark.parametrize("criterion", ["snip", "taylor", "obd", "gradient_ranked"])
def test_a_batch_of_one_will_do(criterion):
    scores = score(network(), criterion, evidence=images(1, examples=1))
    assert all(value.isfinite().all() for value in scores.values())


def test_a_batch_of_one_that_batch_norm_refuses_names_the_criterion_and_the_model():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    one = classification([(torch.ones(1, 2), torch.tensor([1]))])
    with pytest.raises(PruningError, match="'grasp' cannot score Sequential: Expected more than 1"):
        prune(model, 0.5, criterion="grasp", evidence=one)
    assert model.training and float(model[1].running_mean.sum()) == 0
    assert not model._forward_hooks


@pytest.mark.parametrize("criterion", ["snip", "taylor", "obd", "gradient_ranked", "grasp"])
def test_no_evidence_is_an_error_that_names_the_criterion(criterion):
    with pytest.raises(PruningError, match=f"'{criterion}' needs data"):
        prune(line(), 0.5, criterion=criterion)


def test_a_frozen_layer_that_was_asked_for_is_named():
    model = network()
    model[0].requires_grad_(False)
    with pytest.raises(PruningError, match=r"'snip' needs a gradient, but layer '0.weight' is fro"):
        prune(model, 0.5, criterion="snip", evidence=images(), only=["*.weight"], skip=["1.*"])


def test_a_layer_that_the_loss_never_meets_scores_zero():
    model = network()
    model.register_module("idle", nn.Linear(2, 2))
    model.forward = lambda x: nn.Sequential(*[*model][:6])(x)
    assert score(model, "snip", evidence=images())["idle.weight"].eq(0).all()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "snip", "batches": 0}, "batches 0 is not a count"),
        ({"name": "grasp", "temperature": 0}, "temperature 0 is not above 0"),
        ({"name": "taylor", "gate": "layer"}, "criterion 'taylor': unknown gate 'layer'"),
        ({"name": "snip", "batch": 1}, "unknown setting of criterion 'snip' 'batch'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(choice, message):
    with pytest.raises(PruningError, match=message):
        prune(line(), 0.5, criterion=choice, evidence=squares())
