import pytest
import torch
from torch import Tensor, nn

from pruning import Evidence, PruningError, classification, prune, score
from tests.pruning import zoo


def by_filter(activation: Tensor, dim: int = 1) -> Tensor:
    return activation.double().movedim(dim, 0).flatten(1)


def evidence_of(*batches: Tensor) -> Evidence:
    return classification([(x, torch.zeros(len(x), dtype=torch.int64)) for x in batches])


def identity(width: int) -> nn.Linear:
    layer = nn.Linear(width, width, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(width))
    return layer


THREE = torch.tensor([[1.0, -1.0], [2.0, -2.0], [-3.0, -3.0]])
ONE = torch.tensor([[4.0, 8.0]])


def test_apoz_counts_examples_not_batches():
    model = nn.Sequential(identity(2), nn.ReLU())
    scores = score(model, "apoz", evidence=evidence_of(THREE, ONE), granularity="filter")
    # not zero: 3 of 4 and 1 of 4; a mean of batch means would say 5/6 and 1/2
    assert scores["0.weight"].tolist() == [[0.75], [0.25]]


def test_mean_activation_counts_examples_not_batches():
    model = nn.Sequential(identity(2), nn.ReLU())
    scores = score(model, "mean_activation", evidence=evidence_of(THREE, ONE), granularity="filter")
    assert scores["0.weight"].tolist() == [[7 / 4], [2.0]]


def test_mean_activation_keeps_the_highest():
    model = nn.Sequential(identity(2), nn.ReLU())
    masks = prune(
        model,
        0.5,
        criterion="mean_activation",
        granularity="filter",
        evidence=evidence_of(THREE, ONE),
    )
    assert masks["0.weight"].tolist() == [[False, False], [True, True]]


class Misnamed(nn.Module):
    """Names that say nothing: the activation is a function, reached over other layers."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.Conv2d(3, 5, 3)
        self.conv = nn.BatchNorm2d(5)
        self.fc = nn.Dropout(0.5)

    def before(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(self.fc(self.conv(self.relu(x))), 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp_min(self.before(x), 0).flatten(1)


def test_the_activation_is_found_behind_normalisation_dropout_and_pooling():
    torch.manual_seed(1)
    model, x = Misnamed(), torch.randn(4, 3, 6, 6)
    scores = score(model, "apoz", evidence=evidence_of(x[:3], x[3:]), granularity="filter")
    assert model.training
    expected = by_filter(model.eval().before(x)).gt(0).double().mean(1)
    assert scores["relu.weight"].flatten().tolist() == expected.tolist()
    assert scores["relu.weight"].shape == (5, 1, 1, 1)


def test_of_concatenated_layers_each_has_its_own_channels():
    model, evidence = zoo.build("dense"), zoo.evidence("dense", batches=1)
    scores = score(model, "apoz", evidence=evidence, granularity="filter", skip=["head.*"])
    x = evidence.inputs(evidence.batches[0])[0]
    both = torch.cat([model.left(x), model.right(x)], 1)
    active = by_filter(model.bn.eval()(both)).gt(0).double().mean(1)
    assert scores["left.weight"].flatten().tolist() == active[:4].tolist()
    assert scores["right.weight"].flatten().tolist() == active[4:].tolist()


def test_a_layer_before_a_sum_has_the_activation_of_the_sum():
    model, evidence = zoo.build("two_inputs"), zoo.evidence("two_inputs")
    scores = score(model, "mean_activation", evidence=evidence, granularity="filter", skip=["h*"])
    assert torch.equal(scores["left.weight"], scores["right.weight"])
    left, right = (
        torch.cat(parts) for parts in zip(*(b[0] for b in evidence.batches), strict=True)
    )
    expected = torch.relu(model.left(left) + model.right(right)).double().mean(0)
    assert torch.allclose(scores["left.weight"].flatten(), expected)


def test_a_layer_used_twice_counts_both_uses():
    model, evidence = zoo.build("tied"), zoo.evidence("tied")
    scores = score(model, "apoz", evidence=evidence, granularity="filter", only=["mix.weight"])
    tokens = torch.cat([batch[0][0] for batch in evidence.batches])
    first = torch.relu(model.mix(model.embedding(tokens).mean(1)))
    second = torch.relu(model.mix(first))
    expected = torch.cat([first, second]).gt(0).double().mean(0)
    assert scores["mix.weight"].flatten().tolist() == expected.tolist()


def test_after_a_permutation_the_channels_are_followed():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.body(x).permute(0, 2, 3, 1)).transpose(1, 3)

    torch.manual_seed(0)
    model, x = Last(), torch.randn(2, 3, 3, 3)
    scores = score(model, "apoz", evidence=evidence_of(x), granularity="filter")
    expected = by_filter(model.body(x)).gt(0).double().mean(1)
    assert scores["body.weight"].flatten().tolist() == expected.tolist()


def test_a_transposed_convolution_is_scored_along_its_outputs():
    model, evidence = zoo.build("transposed"), zoo.evidence("transposed")
    scores = score(model, "apoz", evidence=evidence, granularity="filter", skip=["6.*"])
    assert scores["2.weight"].shape == (1, 6, 1, 1)


@pytest.mark.parametrize(
    ("layers", "criterion", "message"),
    [
        (
            [nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2)],
            "apoz",
            "'apoz': layer '0.weight' is followed by gelu, not by an activation with exact zeros",
        ),
        ([nn.Linear(2, 2), nn.SiLU()], "apoz", "layer '0.weight' is followed by silu"),
        ([nn.Linear(2, 2), nn.Hardtanh()], "apoz", "layer '0.weight' is followed by hardtanh"),
        (
            [nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)],
            "mean_activation",
            "'mean_activation': layer '2.weight' is followed by output",
        ),
        ([nn.Linear(2, 2), nn.Linear(2, 2)], "apoz", "'0.weight' is followed by linear"),
    ],
)
def test_a_layer_without_its_activation_is_named_with_what_follows_it(layers, criterion, message):
    with pytest.raises(PruningError, match=message):
        score(nn.Sequential(*layers), criterion, evidence=evidence_of(THREE), granularity="filter")


def test_mean_activation_is_defined_for_gelu():
    model = nn.Sequential(identity(2), nn.GELU())
    scores = score(model, "mean_activation", evidence=evidence_of(THREE), granularity="filter")
    expected = nn.functional.gelu(THREE).double().mean(0)
    assert torch.allclose(scores["0.weight"].flatten(), expected)


def test_hardtanh_from_zero_has_exact_zeros():
    model = nn.Sequential(identity(2), nn.Hardtanh(0.0, 1.0))
    scores = score(model, "apoz", evidence=evidence_of(THREE), granularity="filter")
    assert scores["0.weight"].flatten().tolist() == [2 / 3, 0.0]


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_recurrent_layer_hides_its_activations(kind):
    with pytest.raises(PruningError, match=rf"'recurrent.weight_ih_l0' goes into {kind}"):
        score(zoo.build(kind), "apoz", evidence=zoo.evidence(kind), granularity="filter")


def test_a_model_that_cannot_be_exported_is_named():
    with pytest.raises(PruningError, match=r"torch.export cannot export Branching: Could not gua"):
        score(zoo.build("branching"), "apoz", evidence=zoo.evidence("branching"))


def test_finer_pieces_than_filters_are_refused():
    model = nn.Sequential(identity(2), nn.ReLU())
    with pytest.raises(PruningError, match=r"'apoz': .* coarser than granularity 'weight'"):
        prune(model, 0.5, criterion="apoz", evidence=evidence_of(THREE))
