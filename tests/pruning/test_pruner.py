"""The axes composed: masks of whole models, exact, nested, and honest about collapse."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pruning import masks as mask_tools
from pruning.errors import PruningError
from pruning.evidence import classification
from pruning.pruner import LayerCollapse, prune, score
from pruning.rounds import round_sparsities
from pruning.selection import kept_count

KINDS = ["weight", "vector", "kernel", "filter", "channel"]


def by_hand():
    """Two layers of 2x3 and 2x2 weights, their magnitudes all different."""
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, -0.9, 0.3], [-0.5, 0.7, -0.2]]))
        model[2].weight.copy_(torch.tensor([[-0.4, 0.6], [0.8, -0.05]]))
    return model


def convolutions(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, bias=False), nn.Flatten(), nn.Linear(3, 5)
    )


def same_scores(model):
    """Give every weight of `model` the same magnitude, signs alternating."""
    with torch.no_grad():
        for parameter in model.parameters():
            signs = torch.arange(parameter.numel()).remainder(2).mul(2).sub(1)
            parameter.copy_(signs.view(parameter.shape) * 0.5)
    return model


def kept(masks):
    return {name: int(mask.sum()) for name, mask in masks.items()}


def quiet(*args, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapse)
        return prune(*args, **settings)


def test_global_magnitude_by_hand():
    masks = prune(by_hand(), 0.5)  # of ten, 0.9 0.8 0.7 0.6 0.5 stay
    assert masks["0.weight"].tolist() == [[False, True, False], [True, True, False]]
    assert masks["2.weight"].tolist() == [[False, True], [True, False]]
    assert [*masks] == ["0.weight", "2.weight"]


def test_layerwise_magnitude_by_hand():
    masks = prune(by_hand(), 0.5, allocation="layerwise")
    assert masks["0.weight"].tolist() == [[False, True, False], [True, True, False]]
    assert masks["2.weight"].tolist() == [[False, True], [True, False]]
    masks = prune(by_hand(), 0.75, allocation="layerwise")  # 1.5 of 6 and 1 of 4, halves up
    assert kept(masks) == {"0.weight": 2, "2.weight": 1}


def test_filters_by_hand():
    # L1 norms: 1.3 and 1.4 in the first layer, 1.0 and 0.85 in the second.
    masks = prune(by_hand(), 0.25, granularity="filter")
    assert masks["2.weight"].tolist() == [[True, True], [False, False]]
    assert masks["0.weight"].all()
    masks = prune(by_hand(), 0.5, granularity="filter", reduce="max")  # 0.9 0.7 against 0.6 0.8
    assert masks["0.weight"].tolist() == [[True] * 3, [False] * 3]
    assert masks["2.weight"].tolist() == [[False] * 2, [True] * 2]


def test_the_model_is_left_as_it_is():
    model = by_hand()
    before = [parameter.clone() for parameter in model.parameters()]
    prune(model, 0.5)
    prune(model, 0.5, rounds=3)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


@given(st.integers(0, 9), st.floats(0, 1, exclude_max=True), st.booleans())
def test_the_global_budget_is_exact(seed, sparsity, tied):
    model = same_scores(convolutions()) if tied else convolutions(seed)
    masks = quiet(model, sparsity)
    total = 72 + 108 + 15
    assert mask_tools.kept(masks) == kept_count(total, sparsity)


@given(st.floats(0, 1, exclude_max=True), st.sampled_from(["magnitude", "lp_norm", "random"]))
def test_the_layerwise_budget_is_exact_in_every_layer(sparsity, criterion):
    evidence = classification([], seed=3)
    found = kept(
        quiet(
            convolutions(),
            sparsity,
            allocation="layerwise",
            criterion=criterion,
            evidence=evidence,
        )
    )
    sizes = {"0.weight": 72, "2.weight": 108, "4.weight": 15}
    assert found == {name: kept_count(size, sparsity) for name, size in sizes.items()}


@pytest.mark.parametrize("granularity", KINDS)
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9])
def test_every_granularity_keeps_its_count_of_pieces(granularity, sparsity):
    model = convolutions()
    pieces = score(model, granularity=granularity)
    found = mask_tools.layers(quiet(model, sparsity, granularity=granularity))
    total = sum(piece.numel() for piece in pieces.values())
    whole = {name: model.get_parameter(name).numel() // s.numel() for name, s in pieces.items()}
    assert all(layer.kept % whole[layer.layer] == 0 for layer in found)
    assert sum(layer.kept // whole[layer.layer] for layer in found) == kept_count(total, sparsity)


@pytest.mark.parametrize("granularity", KINDS)
@pytest.mark.parametrize("allocation", ["global", "layerwise"])
def test_masks_are_nested_when_scores_change_in_between(granularity, allocation):
    model, previous = convolutions(), None
    axes = {"granularity": granularity, "allocation": allocation}
    pieces = score(model, granularity=granularity)
    for round_, sparsity in enumerate([0.2, 0.4, 0.4, 0.6]):
        found = quiet(convolutions(round_), sparsity, previous=previous, **axes)
        counts = {name: kept_count(piece.numel(), sparsity) for name, piece in pieces.items()}
        if allocation == "global":
            total = sum(piece.numel() for piece in pieces.values())
            per_piece = [found[n].sum() * s.numel() // found[n].numel() for n, s in pieces.items()]
            assert sum(map(int, per_piece)) == kept_count(total, sparsity)
        else:
            sizes = {n: found[n].numel() // s.numel() for n, s in pieces.items()}
            assert kept(found) == {name: counts[name] * sizes[name] for name in counts}
        if previous is not None:
            assert not any(bool((found[name] & ~previous[name]).any()) for name in found)
        previous = found


def test_a_pruned_weight_never_competes_again_though_it_grew():
    model = by_hand()
    previous = prune(model, 0.5)
    with torch.no_grad():
        model[0].weight[0, 0] = 100.0  # pruned before, as 0.1
    again = prune(model, 0.6, previous=previous)
    assert not again["0.weight"][0, 0]
    assert mask_tools.kept(again) == 4
    back = prune(model, 0.6, previous=previous, allow_regrowth=True)
    assert back["0.weight"][0, 0]
    assert mask_tools.kept(back) == 4


def test_previous_masks_are_taken_to_the_model_s_device():
    def on_the_cpu(_model, params, _evidence):
        return {name: torch.zeros(weight.shape) for name, weight in params.items()}

    def told(_scores, _params, _sparsity, alive):
        raise PruningError(f"those alive are on {alive['weight'].device}")

    model, previous = nn.Linear(3, 2, device="meta"), {"weight": torch.ones(2, 3).bool()}
    with pytest.raises(PruningError, match="those alive are on meta"):
        prune(model, 0.5, criterion=on_the_cpu, allocation=told, previous=previous)


def test_previous_masks_under_a_tied_weight_s_second_name_count():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    mask = torch.tensor([[True, False], [True, True]])
    found = prune(model, 0.25, previous={"1.weight": mask})
    assert torch.equal(found["0.weight"], mask)


def test_going_back_to_less_sparsity_is_refused():
    model = by_hand()
    previous = prune(model, 0.5)
    with pytest.raises(PruningError, match="cannot keep 8 pieces: only 5 are left"):
        prune(model, 0.2, previous=previous)


def test_filters_after_weights_keep_single_weights_pruned():
    model = by_hand()
    previous = prune(model, 0.5)
    found = prune(model, 0.25, granularity="filter", previous=previous)
    assert not any(bool((found[name] & ~previous[name]).any()) for name in found)
    assert found["2.weight"].tolist() == [[False, True], [False, False]]


def test_rounds_of_a_quarter_reach_the_series_within_half_a_weight_a_layer():
    torch.manual_seed(0)
    model, previous = nn.Sequential(nn.Linear(30, 11), nn.Linear(11, 7), nn.Linear(7, 3)), None
    for round_, sparsity in enumerate(round_sparsities(0.25, 0.85), start=1):
        previous = prune(model, sparsity, allocation="layerwise", previous=previous)
        for layer in mask_tools.layers(previous):
            assert abs(layer.kept - layer.weights * 0.75**round_) <= 0.5 + 1e-9
    assert round_ == 7


def test_collapse_warns_and_names_the_layer():
    model = by_hand()
    with torch.no_grad():
        model[2].weight.mul_(1e-3)
    with pytest.warns(LayerCollapse, match=r"sparsity 0\.5 layer 2\.weight loses every") as caught:
        masks = prune(model, 0.5)
    assert not masks["2.weight"].any()
    assert caught[0].filename == __file__
    with pytest.raises(PruningError, match=r"layer 2\.weight loses every weight.*min_keep"):
        prune(model, 0.5, on_collapse="error")


def test_min_keep_prevents_collapse():
    model = by_hand()
    with torch.no_grad():
        model[2].weight.mul_(1e-3)
    masks = prune(model, 0.5, allocation={"name": "global", "min_keep": 1}, on_collapse="error")
    assert kept(masks) == {"0.weight": 4, "2.weight": 1}
    assert masks["2.weight"][1, 0]  # its largest


def test_a_function_of_ten_lines_is_a_criterion():
    def first_come(_model, params, _evidence):
        return {name: -torch.arange(w.numel()).float().view(w.shape) for name, w in params.items()}

    masks = prune(by_hand(), 0.6, criterion=first_come)
    assert masks["0.weight"].tolist() == [[True, True, False], [False] * 3]
    assert masks["2.weight"].tolist() == [[True, True], [False, False]]


def test_settings_bind_by_name():
    assert torch.equal(
        score(by_hand(), {"name": "lp_norm", "p": 3.0})["0.weight"],
        by_hand()[0].weight.detach().abs().pow(3),
    )


def test_random_scores_come_from_the_evidence_alone():
    model = by_hand()

    def draw(seed):
        return score(model, "random", evidence=classification([], seed=seed))["0.weight"]

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    state = torch.random.get_rng_state()
    draw(1)
    assert torch.equal(state, torch.random.get_rng_state())


def test_scores_do_not_depend_on_how_many_were_taken_before():
    evidence = classification([], seed=3)
    first, again = (score(by_hand(), "random", evidence=evidence) for _ in range(2))
    assert all(torch.equal(again[name], scores) for name, scores in first.items())


def broken(value):
    def bad(_model, params, _evidence):
        return {name: value(weight) for name, weight in params.items()}

    return bad


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (lambda w: w.detach() * float("nan"), "'bad' returned NaN for layer '0.weight'"),
        (lambda w: w.detach()[:1, :2], r"returned shape \(1, 2\) for layer '0.weight'"),
        (lambda w: w.detach().flatten(), r"returned shape \(6,\) for layer '0.weight'"),
    ],
)
def test_a_bad_criterion_is_named(value, told):
    with pytest.raises(PruningError, match=told):
        prune(by_hand(), 0.5, criterion=broken(value))


def test_a_criterion_that_misses_or_invents_a_layer_is_named():
    def missing(_model, params, _evidence):
        return {"0.weight": params["0.weight"].detach()}

    def inventing(model, _params, _evidence):
        return {name: p.detach() for name, p in model.named_parameters()}

    with pytest.raises(PruningError, match=r"'missing' returned no score for layer '2\.weight'"):
        prune(by_hand(), 0.5, criterion=missing)
    with pytest.raises(PruningError, match=r"'inventing' scored '0\.bias', which is not prunable"):
        prune(by_hand(), 0.5, criterion=inventing)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"criterion": "magnitud"}, "unknown criterion 'magnitud'; choose from .*magnitude"),
        ({"allocation": "locally"}, "unknown allocation 'locally'; choose from .*global"),
        ({"granularity": "row"}, "unknown granularity 'row'; choose from weight"),
        ({"reduce": "min"}, "unknown reduction 'min'; choose from sum"),
        ({"on_collapse": "shrug"}, "unknown on_collapse 'shrug'; choose from warn, error"),
        ({"criterion": {"name": "lp_norm", "q": 1}}, "'lp_norm' 'q'; choose from p"),
        ({"criterion": {"p": 1}}, "criterion .* has no 'name'"),
        ({"only": ["conv.*"]}, r"pattern 'conv\.\*' matches no parameter"),
        ({"previous": {"9.weight": torch.ones(1).bool()}}, "previous masks: .*'9.weight'"),
        ({"previous": {"0.weight": torch.ones(3, 2).bool()}}, r"previous masks: .*\(3, 2\)"),
    ],
)
def test_bad_settings_are_told_with_the_choices(settings, told):
    with pytest.raises(PruningError, match=told):
        prune(by_hand(), 0.5, **settings)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan"), None])
def test_a_sparsity_outside_its_range_is_refused(sparsity):
    with pytest.raises(PruningError, match="sparsity"):
        prune(by_hand(), sparsity)
