"""Scores and masks of whole groups, by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pruning.coupling.choosing import group_masks
from pruning.coupling.groups import channels
from pruning.coupling.scoring import group_scores, whole
from pruning.errors import PruningError
from tests.pruning import channel_zoo as zoo


class Sum(nn.Module):
    """Two layers whose three outputs are added; a third reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(functional.relu(self.a(x) + self.b(x)))


GROUPS = channels(Sum(), torch.randn(1, 2))
SCORES = {
    "a.weight": torch.tensor([[1.0], [5.0], [2.0]]),
    "b.weight": torch.tensor([[4.0], [3.0], [0.5]]),
    "c.weight": torch.tensor([[7.0], [8.0]]),
}


@pytest.mark.parametrize(
    ("how", "expected"),
    [("sum", [5.0, 8.0, 2.5]), ("mean", [2.5, 4.0, 1.25]), ("max", [4.0, 5.0, 2.0])],
)
def test_every_member_gets_its_group_s_score(how, expected):
    found = group_scores(SCORES, GROUPS, how)
    column = torch.tensor(expected)[:, None]
    assert torch.equal(found["a.weight"], column)
    assert torch.equal(found["b.weight"], column)
    assert torch.equal(found["c.weight"], SCORES["c.weight"])  # the output stays


def test_channel_scores_meet_filter_scores():
    scores = {"a.weight": SCORES["a.weight"], "c.weight": torch.tensor([[10.0, 20.0, 30.0]])}
    found = group_scores(scores, GROUPS, "sum")
    assert found["a.weight"].flatten().tolist() == [11.0, 25.0, 32.0]
    assert found["c.weight"].tolist() == [[11.0, 25.0, 32.0]]


def test_a_stream_s_score_counts_the_norms_that_go_with_it():
    groups = channels(zoo.build("pre_activation"), zoo.example("pre_activation"))
    scores = {"bn1.weight": torch.arange(8.0), "stem.weight": torch.full((8, 1, 1, 1), 100.0)}
    found = group_scores(scores, groups)
    assert found["bn1.weight"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert found["stem.weight"].flatten().tolist() == [100.0 + k for k in range(8)]


def test_masks_take_the_lowest_groups_with_their_biases():
    masks = group_masks(SCORES, GROUPS, 0.4)
    assert masks.keys() == {"a.weight", "a.bias", "b.weight", "b.bias"}
    for mask in masks.values():
        kept = mask.flatten(1).all(1) if mask.ndim > 1 else mask
        assert kept.tolist() == [True, True, False]


def test_at_least_so_many_groups_stay():
    masks = group_masks(SCORES, GROUPS, 0.99, min_keep=2)
    assert masks["a.bias"].tolist() == [True, True, False]


def test_the_best_of_those_that_would_go_fill_a_multiple():
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    groups = channels(model, torch.randn(1, 2))
    scores = {"0.weight": torch.tensor([3.0, 8.0, 1.0, 7.0, 6.0, 5.0, 2.0, 4.0])[:, None]}
    # three of eight stay: 8, 7, 6; a fourth makes a multiple of four: 5, the best of the rest
    masks = group_masks(scores, groups, 0.625, round_to=4)
    assert masks["0.bias"].tolist() == [False, True, False, True, True, True, False, False]


def test_a_global_ranking_takes_from_where_scores_are_low():
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    groups = channels(model, torch.randn(1, 2))
    scores = {
        "0.weight": torch.tensor([[1.0], [2.0], [3.0], [4.0]]),
        "2.weight": torch.ones(4, 1) * 9,
    }
    masks = group_masks(scores, groups, 0.25, scope="global")
    assert masks["0.bias"].tolist() == [False, False, True, True]
    assert masks.keys() == {"0.weight", "0.bias"}


@pytest.mark.parametrize(
    ("sparsity", "kept"), [(0.0, 21), (0.2, 16), (0.25, 16), (0.4, 12), (0.55, 8), (0.7, 8)]
)
def test_layers_keep_the_nearest_multiple(sparsity, kept):
    # 21, 17, 16, 13, 9 and 6 of 21 are to stay; of the wider layer, which has no score, all do
    model = nn.Sequential(nn.Linear(2, 21), nn.ReLU(), nn.Linear(21, 30), nn.ReLU())
    model.append(nn.Linear(30, 1))
    groups = channels(model, torch.randn(1, 2))
    scores = {"0.weight": torch.arange(21.0)[:, None]}
    mask = group_masks(scores, groups, sparsity, round_to=4).get("0.bias", torch.ones(21)).bool()
    assert mask.nonzero().flatten().tolist() == [*range(21 - kept, 21)]


def test_masks_of_filters_take_what_dies_with_them_and_nothing_else():
    model = zoo.build("depthwise")
    groups = channels(model, zoo.example("depthwise"))
    mask = torch.ones(12, 1, 1, 1, dtype=torch.bool)
    mask[[0, 7]] = False
    masks = {
        "expand.weight": mask.expand(12, 3, 1, 1),
        "depth.weight": mask.expand(12, 1, 3, 3),
    }
    found = whole(masks, groups)
    gone = {name: sorted({int(i[0]) for i in (~m).nonzero()}) for name, m in found.items()}
    made = ["expand", "bn1", "depth", "bn2", "excite"]
    assert gone == {
        name: [0, 7] for name, _ in model.named_parameters() if name.split(".")[0] in made
    }
    more = whole(masks, groups, consumers=True)
    assert set(more) - set(found) == {"squeeze.weight", "project.weight"}
    assert (~more["project.weight"]).nonzero()[:, 1].unique().tolist() == [0, 7]


def test_partly_masked_filters_are_left_alone():
    model = zoo.build("residual")
    groups = channels(model, zoo.example("residual"))
    mask = torch.ones_like(model.stem.weight, dtype=torch.bool)
    mask[0, 0] = False
    assert whole({"stem.weight": mask}, groups).keys() == {"stem.weight"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: group_scores(SCORES, GROUPS, "median"), "unknown how 'median'"),
        (lambda: group_scores({"a.weight": torch.ones(3, 2)}, GROUPS), "coarsen them"),
        (lambda: group_masks(SCORES, GROUPS, 1.0), r"sparsity 1.0 is outside \[0, 1\)"),
        (lambda: group_masks(SCORES, GROUPS, 0.5, scope="all"), "unknown scope 'all'"),
    ],
)
def test_bad_choices_are_named(call, message):
    with pytest.raises(PruningError, match=message):
        call()
