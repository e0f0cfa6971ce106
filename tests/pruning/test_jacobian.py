import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap

from pruning import PruningError, classification, score
from pruning.jacobian import jacobian, layer_singular_values, singular_values, statistics
from tests.pruning import zoo


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4)),
    ).double()


def evidence(examples: int = 3, batches: int = 2):
    generator = torch.Generator().manual_seed(1)
    shape = (examples, 2, 3, 3)
    return classification(
        [
            (
                torch.randn(shape, generator=generator, dtype=torch.float64),
                torch.zeros(examples, dtype=torch.int64),
            )
            for _ in range(batches)
        ]
    )


def test_equals_an_explicitly_built_jacobian():
    model, data = network(), evidence(batches=1)
    x = data.batches[0][0]
    found = jacobian(model.eval(), (x,))
    explicit = vmap(jacrev(lambda one: model(one[None])[0]))(x).flatten(2)
    assert found.shape == (3, 4, 18)
    assert torch.allclose(found, explicit, atol=1e-12)
    values = singular_values(model.train(), data)
    assert torch.allclose(values, torch.linalg.svdvals(explicit), atol=1e-12)
    assert model.training


def test_one_row_of_singular_values_for_every_example():
    assert singular_values(network(), evidence()).shape == (6, 4)
    assert singular_values(network(), evidence(), batches=1, examples=2).shape == (2, 4)


def test_a_layer_s_own_jacobian_is_its_weight():
    model = network()
    spectra = layer_singular_values(model, evidence())
    assert [*spectra] == ["0", "4"]
    linear = torch.linalg.svdvals(model[4].weight.detach())
    assert torch.allclose(spectra["4"], linear.expand(3, 4), atol=1e-12)
    # the convolution as the matrix that it is: its columns are what it makes of unit images
    units = torch.eye(18, dtype=torch.float64).reshape(18, 2, 3, 3)
    bias = model[0].bias.detach().reshape(1, 3, 1, 1)
    matrix = (model[0](units) - bias).flatten(1).T
    assert torch.allclose(spectra["0"][0], torch.linalg.svdvals(matrix), atol=1e-12)


def test_layers_are_chosen_by_patterns():
    assert [*layer_singular_values(network(), evidence(), layers=["2"], examples=1)] == ["2"]
    with pytest.raises(PruningError, match="pattern 'body' matches no module; choose from 0, 1"):
        layer_singular_values(network(), evidence(), layers=["body"])


@pytest.mark.parametrize("name", ["lstm", "gru", "attention", "two_inputs"])
def test_equals_the_jacobian_of_each_example_alone(name):
    model, data = zoo.build(name).eval(), zoo.evidence(name, batches=1)
    inputs = data.inputs(data.batches[0])
    found = jacobian(model, inputs)
    first = torch.autograd.functional.jacobian(model, tuple(leaf[:1] for leaf in inputs))
    explicit = torch.cat([part.reshape(zoo.CLASSES, -1) for part in first], 1)
    assert torch.allclose(found[0], explicit, atol=1e-6)


def test_statistics_by_hand():
    values = torch.tensor([[3.0, 1.0], [3.0, 1.0]])
    assert statistics(values) == {"mean": 2, "min": 1, "max": 3, "std": 1}


def test_an_orthogonal_network_is_an_isometry():
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(6, 6) for _ in range(4)])
    for module in model:
        nn.init.orthogonal_(module.weight)
    data = classification([(torch.randn(5, 6), torch.zeros(5, dtype=torch.int64))])
    assert torch.allclose(singular_values(model, data), torch.ones(5, 6), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [("tied", "'jacobian': Tied has no floating-point input"), ("mlp", "'jacobian' needs data")],
)
def test_what_cannot_be_done_is_named(name, message):
    data = zoo.evidence(name, batches=1 if name == "tied" else 0)
    with pytest.raises(PruningError, match=message):
        singular_values(zoo.build(name), data)


def test_without_batches_no_hook_is_left():
    model = network()
    with pytest.raises(PruningError, match="'jacobian' needs data"):
        layer_singular_values(model, evidence(batches=0))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_rows_that_are_no_examples_are_refused():
    model = nn.Flatten(0)
    with pytest.raises(PruningError, match="Flatten returns 6 rows for 2 examples"):
        jacobian(model, (torch.ones(2, 3),))


def diagonal() -> nn.Module:
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, -2.0]]))
    return model


def test_the_criterion_by_hand():
    data = classification([(torch.randn(4, 2), torch.zeros(4, dtype=torch.int64))])
    found = score(diagonal(), "jacobian", evidence=data)["weight"]
    assert torch.allclose(found, torch.tensor([[3.0, 0.0], [0.0, 2.0]]))


def test_the_criterion_says_how_the_singular_values_move():
    model, data = network(), evidence(batches=1)
    found = score(model, "jacobian", evidence=data)
    before = singular_values(model, data).mean(0)
    step = 1e-6
    for name, place in [("0.weight", (1, 0, 1, 1)), ("4.weight", (2, 5)), ("4.weight", (0, 7))]:
        weight = model.get_parameter(name)
        with torch.no_grad():
            old = weight[place].clone()
            weight[place] = old * (1 - step)
            moved = (singular_values(model, data).mean(0) - before).abs().sum() / step
            weight[place] = old
        assert float(found[name][place]) == pytest.approx(float(moved), rel=1e-4)
