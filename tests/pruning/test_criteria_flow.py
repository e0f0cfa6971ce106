import copy
import mmap

import pytest
import torch
from torch import nn

from pruning import PruningError, classification, prune, score
from pruning.masks import collapsed
from pruning.shrinking.adapters import adapt


def two_layers() -> nn.Module:
    """Weights ((1, -2), (3, 0)) and (-1, 2)."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
        model[2].weight.copy_(torch.tensor([[-1.0, 2.0]]))
    return model


def shapes(*shape: int, value: float = 0.0):
    return classification([(torch.full(shape, value), torch.zeros(shape[0], dtype=torch.int64))])


def deep(depth: int, width: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Linear(width, width, bias=False) for _ in range(depth)]
    return nn.Sequential(*[module for layer in layers for module in (layer, nn.ReLU())])


def test_by_hand():
    # |W2| |W1| 1 = 1 * (1 + 2) + 2 * (3 + 0) = 9
    scores = score(two_layers(), "synflow", evidence=shapes(5, 2))
    assert scores["0.weight"].tolist() == [[1, 2], [6, 0]]
    assert scores["2.weight"].tolist() == [[3, 6]]


def test_every_layer_holds_the_same_flow():
    scores = score(deep(5, 7), "synflow", evidence=shapes(1, 7))
    flows = torch.stack([value.sum() for value in scores.values()])
    assert torch.allclose(flows, flows[0])


def test_no_data_is_looked_at():
    model = deep(3, 4)
    first = score(model, "synflow", evidence=shapes(2, 4, value=1.0))
    second = score(model, "synflow", evidence=shapes(9, 4, value=float("nan")))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_in_double_precision_where_single_overflows():
    model = deep(40, 60)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    scores = score(model, "synflow", evidence=shapes(1, 60))
    assert all(value.dtype == torch.float64 for value in scores.values())
    assert scores["0.weight"].max() > torch.finfo(torch.float32).max
    assert all(value.isfinite().all() for value in scores.values())


def test_an_overflow_of_double_precision_names_the_layer():
    model = deep(40, 60)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1e10)
    with pytest.raises(PruningError, match=r"'synflow' overflows float64 in layer '78.weight'"):
        score(model, "synflow", evidence=shapes(1, 60))


def test_rounds_keep_every_layer_where_one_shot_loses_one():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Linear(30, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 3))
    )
    evidence = shapes(1, 30)
    with pytest.warns(UserWarning, match="loses every weight"):
        once = prune(model, 0.9995, criterion="synflow", evidence=evidence)
    assert collapsed(once)
    often = prune(model, 0.9995, criterion="synflow", evidence=evidence, rounds=100)
    assert not collapsed(often)
    assert sum(int(m.sum()) for m in often.values()) == sum(int(m.sum()) for m in once.values())


def test_batch_norm_is_taken_out_or_made_absolute():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1, eps=0.0))
    with torch.no_grad():
        model[0].weight.fill_(-2)
        model[1].weight.fill_(-3)
        model[1].running_mean.fill_(-1)
        model[1].running_var.fill_(4)
    evidence = shapes(2, 1)
    assert score(model, "synflow", evidence=evidence)["0.weight"].item() == 2
    kept = {"name": "synflow", "normalisation": "eval"}
    assert score(model, kept, evidence=evidence)["0.weight"].item() == 2 * 3 / 2
    assert model[1].weight.item() == -3 and model[0].weight.item() == -2


def test_a_shrunk_network_s_norm_goes_on_selecting_channels():
    norm = nn.BatchNorm1d(2)
    adapt(norm, {"select": [0, 2]})
    model = nn.Sequential(nn.Linear(1, 3, bias=False), norm, nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [10.0], [-100.0]]))
        model[2].weight.copy_(torch.tensor([[2.0, -3.0]]))
    scores = score(model, "synflow", evidence=shapes(2, 1))
    assert scores["0.weight"].flatten().tolist() == [2, 0, 300]
    assert scores["2.weight"].tolist() == [[2, 300]]


class Sum(nn.Module):
    """x @ (a + b).T: autograd gives a and b one and the same gradient."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([[2.0, 3.0]]))
        self.b = nn.Parameter(torch.tensor([[5.0, 7.0]]))

    def forward(self, x):
        return x @ (self.a + self.b).T


def test_weights_that_share_a_gradient_have_scores_of_their_own():
    scores = score(Sum(), "synflow", evidence=shapes(1, 2), only=["a", "b"])
    assert (scores["a"].tolist(), scores["b"].tolist()) == ([[2, 3]], [[5, 7]])


class Detached(nn.Module):
    """(a b x)(a b x), the first factor without a gradient for b."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor([[2.0]]))
        self.second = nn.Parameter(torch.tensor([[-3.0]]))

    def forward(self, x):
        hidden = x @ self.first
        aside = (
            hidden @ self.second.detach()
        )  # its backward needs `second` after its slope is there
        return aside * (hidden @ self.second)


def test_a_weight_that_is_read_aside_from_its_gradient():
    # R = (a b)(a b) with a = 2, b = 3, once with b fixed: a dR/da = 2 a^2 b^2, b dR/db = a^2 b^2
    scores = score(Detached(), "synflow", evidence=shapes(1, 1), only=["first", "second"])
    assert (scores["first"].item(), scores["second"].item()) == (72, 36)


def test_a_weight_that_the_output_never_meets_scores_zero():
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    model.aside = nn.Linear(3, 3)
    model.forward = lambda x: model[0](x)
    assert score(model, "synflow", evidence=shapes(1, 2))["aside.weight"].eq(0).all()


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="the system has no huge pages")
def test_scores_in_huge_pages_equal_those_in_small_ones(monkeypatch):
    model = nn.Sequential(nn.Linear(600, 500), nn.Linear(500, 1))  # 2.4 MB in float64
    huge = score(model, "synflow", evidence=shapes(1, 600))
    monkeypatch.delattr("mmap.MADV_HUGEPAGE")  # as on macOS
    small = score(model, "synflow", evidence=shapes(1, 600))
    assert all(torch.equal(huge[name], small[name]) for name in huge)
    assert huge["0.weight"].untyped_storage().data_ptr() % mmap.PAGESIZE == 0


@pytest.mark.parametrize("normalisation", ["identity", "eval"])
def test_a_model_in_double_precision_is_left_as_it_was(normalisation):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.LayerNorm(2)).double()
    model[1].running_mean.fill_(-1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score(model, {"name": "synflow", "normalisation": normalisation}, evidence=shapes(2, 2))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_how_the_weights_lie_in_memory_changes_nothing():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 2))
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    one, two = (score(model, "synflow", evidence=shapes(1, 3, 6, 6)) for model in (plain, last))
    assert all(torch.allclose(one[name], two[name], rtol=1e-12) for name in one)


def test_a_bare_sum_of_weights_has_the_weights_as_scores():
    model = nn.Linear(2, 1, bias=False)  # its slope is one number for all weights
    model.forward = lambda x: model.weight.sum() + 0 * x.sum()
    assert torch.equal(score(model, "synflow", evidence=shapes(1, 2))["weight"], model.weight.abs())


def test_a_forward_of_one_s_own_is_put_back():
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    own = model[1].forward = lambda x: x + 1
    score(model, "synflow", evidence=shapes(2, 2))
    assert vars(model[1])["forward"] is own


def test_a_recurrent_layer_sees_the_whole_sequence():
    model = nn.LSTM(3, 2)
    scores = score(model, "synflow", evidence=shapes(4, 5, 3))
    assert scores["weight_hh_l0"].gt(0).any()


@pytest.mark.parametrize(
    ("choice", "evidence", "message"),
    [
        ({"name": "synflow", "normalisation": "off"}, shapes(1, 2), "unknown normalisation 'off'"),
        ("synflow", None, "'synflow' needs data"),
        ("synflow", shapes(1, 3), r"'synflow' cannot score Sequential: .*mat1 and mat2"),
    ],
)
def test_what_cannot_be_done_is_named(choice, evidence, message):
    with pytest.raises(PruningError, match=message):
        score(two_layers(), choice, evidence=evidence)
