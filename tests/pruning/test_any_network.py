"""Every criterion, granularity and allocation on every awkward network.

What cannot be done is in `REFUSED`, with words that its error must hold; everything else must give
masks that keep what they say.
"""

import warnings
from itertools import product

import pytest
import torch

from pruning import LayerCollapse, PruningError, catalogue, enforced, prune
from pruning.granularity import any_kept, piece_shape
from pruning.layouts import layouts
from pruning.masks import apply
from pruning.prunables import prunable
from tests.pruning import zoo

SPARSITY = 0.6
CRITERIA = [*catalogue.entries("criterion")]
GRANULARITIES = ["weight", "vector", "column", "kernel", "filter", "channel", "2:4"]
ALLOCATIONS = {
    "global": "global",
    "layerwise": "layerwise",
    "erk": "erk",
    "per_layer": {"name": "per_layer", "ratios": SPARSITY},
    "interpolated": {"name": "interpolated", "ratios": [0.5, {"*": 0.8}]},
    "threshold": {"name": "threshold", "s": 0.5},
}
BY_FILTER = ("apoz", "mean_activation", "bn_scale", "fpgm")
FOLLOWING = ("apoz", "mean_activation", "bn_scale")
OTHER_LAYERS = {
    "transposed": "'2.weight' belongs to ConvTranspose2d",
    "transposed_grouped": "'2.weight' belongs to ConvTranspose2d",
    "raw": "'first' belongs to Raw",
    "attention": "belongs to Embedding|belongs to MultiheadAttention",
    "lstm": "'[a-z]+.weight_ih_l0' belongs to LSTM",
    "gru": "'[a-z]+.weight_ih_l0' belongs to GRU",
}
BATCH_NORM = ("batch_norm", "residual", "dense")


def refused(network: str, criterion: str, granularity: str) -> str | None:
    """Return what the error must say where the three do not go together, None where they do."""
    if criterion == "jacobian" and network == "tied":
        return "'jacobian': Tied has no floating-point input"
    if criterion == "l_obs" and network in OTHER_LAYERS:
        return f"'l_obs': layer {OTHER_LAYERS[network]}"
    if criterion in FOLLOWING and network == "branching":
        return f"'{criterion}' .*torch.export cannot export Branching"
    if criterion == "bn_scale":
        missing = network not in BATCH_NORM
        return "needs BatchNorm; " if missing else "'bn_scale': no BatchNorm with a scale follows"
    if criterion in FOLLOWING:
        return f"'{criterion}': .*skip the layer"
    if criterion in BY_FILTER and granularity != "filter":
        return f"criterion '{criterion}': .*are coarser than granularity '{granularity}'"
    if network == "grouped" and granularity == "channel":
        return r"layer '2.weight': with 2 groups a channel is no slice of the weight"
    if network == "transposed_grouped" and granularity == "filter":
        return r"layer '2.weight': with 2 groups a filter is no slice of the weight"
    return None


def attempt(network, criterion, granularity, allocation="global", **kwargs):
    model = zoo.build(network)
    arguments = {"only": zoo.ONLY.get(network), **kwargs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapse)
        return model, prune(
            model,
            SPARSITY,
            criterion=criterion,
            granularity=granularity,
            allocation=ALLOCATIONS[allocation],
            evidence=zoo.evidence(network),
            **arguments,
        )


def pieces_kept(model, masks, granularity) -> tuple[int, int]:
    """Return how many pieces stay, of how many; refuse a piece that is neither whole nor gone."""
    places, kept, pieces = layouts(model, dict(model.named_parameters())), 0, 0
    for name, mask in masks.items():
        flags = any_kept(mask, piece_shape(tuple(mask.shape), granularity, places[name], name=name))
        assert torch.equal(flags.expand(mask.shape), mask), f"{name}: a {granularity} is torn"
        kept, pieces = kept + int(flags.sum()), pieces + flags.numel()
    return kept, pieces


@pytest.mark.parametrize("network", zoo.FACTORIES)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_at_every_granularity(network, criterion):
    for granularity in GRANULARITIES:
        message = refused(network, criterion, granularity)
        if message is not None:
            with pytest.raises(PruningError, match=message):
                attempt(network, criterion, granularity)
            if criterion in FOLLOWING:
                return  # refused before any granularity is looked at
            continue
        model, masks = attempt(network, criterion, granularity)
        assert masks.keys() == prunable(model, only=zoo.ONLY.get(network)).keys()
        kept, pieces = pieces_kept(model, masks, granularity)
        assert kept == int(pieces * (1 - SPARSITY) + 0.5)


@pytest.mark.parametrize("network", zoo.FACTORIES)
def test_every_allocation_at_every_granularity(network):
    for granularity, allocation in product(GRANULARITIES, ALLOCATIONS):
        message = refused(network, "magnitude", granularity)
        if message is not None:
            with pytest.raises(PruningError, match=message):
                attempt(network, "magnitude", granularity, allocation)
            continue
        model, masks = attempt(network, "magnitude", granularity, allocation)
        kept, pieces = pieces_kept(model, masks, granularity)
        if allocation in ("global", "erk", "interpolated"):
            assert kept == int(pieces * (1 - SPARSITY) + 0.5)


@pytest.mark.parametrize("criterion", [c for c in CRITERIA if c not in FOLLOWING])
def test_every_criterion_under_every_allocation(criterion):
    granularity = "filter" if criterion in BY_FILTER else "weight"
    others = ("grouped", "tied") if criterion == "l_obs" else ("lstm", "attention")
    for network, allocation in product(("batch_norm", *others), ALLOCATIONS):
        model, masks = attempt(network, criterion, granularity, allocation)
        assert masks.keys() == prunable(model).keys()


SKIPPED = {
    "mlp": ["2.*"],
    "batch_norm": ["7.*"],
    "norm_free": ["6.*"],
    "depthwise": ["2.*", "7.*"],
    "grouped": ["6.*"],
    "transposed": ["6.*"],
    "one_dimensional": ["4.*"],
    "three_dimensional": ["3.*"],
    "raw": ["second.*"],
    "tied": ["embedding.*"],
    "residual": ["head.*"],
    "dense": ["head.*"],
    "two_inputs": ["head.*"],
    "by_name": ["head.*"],
    "frozen": ["4.*"],
}


@pytest.mark.parametrize("network", SKIPPED)
@pytest.mark.parametrize("criterion", ["apoz", "mean_activation"])
def test_activations_are_found_where_layers_without_one_are_skipped(network, criterion):
    model, masks = attempt(network, criterion, "filter", skip=SKIPPED[network])
    kept, pieces = pieces_kept(model, masks, "filter")
    assert kept == int(pieces * (1 - SPARSITY) + 0.5)


@pytest.mark.parametrize("network", zoo.FACTORIES)
def test_a_step_of_training_keeps_the_masks(network):
    model, masks = attempt(network, "magnitude", "weight")
    evidence = zoo.evidence(network)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=0.1)
    with enforced(model, optimizer, masks):
        for batch in evidence.batches:
            optimizer.zero_grad()
            evidence.loss(model, batch).backward()
            optimizer.step()
    params = dict(model.named_parameters(remove_duplicate=False))
    assert all(params[name][~mask].eq(0).all() for name, mask in masks.items())


def test_a_frozen_part_is_never_up_for_pruning():
    _, masks = attempt("frozen", "snip", "weight")
    assert [*masks] == ["2.weight", "4.weight"]


def test_a_shared_weight_is_pruned_once_and_for_both():
    model, masks = attempt("tied", "magnitude", "weight")
    assert [*masks] == ["embedding.weight", "mix.weight"]
    apply(model, masks)
    assert model.head.weight is model.embedding.weight
    assert model.head.weight[~masks["embedding.weight"]].eq(0).all()


def test_filters_of_recurrent_layers_are_the_rows_of_their_gates():
    _, masks = attempt("lstm", "magnitude", "filter")
    mask = masks["recurrent.weight_hh_l0"]
    assert mask.shape == (20, 5) and mask.any(1).eq(mask.all(1)).all()


@pytest.mark.parametrize(
    ("network", "name", "granularity", "shape"),
    [
        ("transposed", "2.weight", "filter", (1, 6, 1, 1)),
        ("transposed", "2.weight", "channel", (8, 1, 1, 1)),
        ("transposed_grouped", "2.weight", "channel", (8, 1, 1, 1)),
        ("depthwise", "2.weight", "filter", (8, 1, 1, 1)),
        ("depthwise", "2.weight", "channel", (8, 1, 1, 1)),
        ("grouped", "2.weight", "filter", (6, 1, 1, 1)),
        ("tied", "embedding.weight", "filter", (1, 8)),
        ("tied", "embedding.weight", "channel", (4, 1)),
        ("lstm", "recurrent.weight_ih_l0", "filter", (20, 1)),
        ("one_dimensional", "0.weight", "vector", (6, 3, 1)),
        ("three_dimensional", "0.weight", "column", (4, 2, 2, 1, 2)),
        ("mlp", "0.weight", "kernel", (8, 12)),
    ],
)
def test_what_a_piece_is(network, name, granularity, shape):
    model = zoo.build(network)
    params = dict(model.named_parameters())
    place = layouts(model, params)[name]
    assert piece_shape(tuple(params[name].shape), granularity, place) == shape
