"""A criterion, an allocation or a schedule from outside the package is one function."""

import sys

import pytest
import torch
from torch import nn

from pruning import PruningError, prune

SOURCE = '''
def smallest_first_row(model, params, evidence, *, factor=1.0):
    """Keep the first rows."""
    scores = {}
    for name, weight in params.items():
        rows = -factor * weight.new_tensor(range(len(weight)))
        scores[name] = rows.reshape(-1, *[1] * (weight.ndim - 1))
    return scores


def everything(scores, params, sparsity, alive):
    return {name: score > -2 for name, score in scores.items()}


def at_once(progress, final, *, initial=0.0):
    return final


not_a_function = 3
'''


@pytest.fixture
def outside(tmp_path, monkeypatch):
    (tmp_path / "my_methods.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_methods", None)


@pytest.mark.usefixtures("outside")
def test_a_criterion_is_one_function():
    model = nn.Linear(3, 4)
    masks = prune(model, 0.5, criterion="my_methods:smallest_first_row", granularity="filter")
    assert masks["weight"].all(1).tolist() == [True, True, False, False]
    choice = {"name": "my_methods:smallest_first_row", "factor": -1}
    masks = prune(model, 0.5, criterion=choice, granularity="filter")
    assert masks["weight"].all(1).tolist() == [False, False, True, True]


@pytest.mark.usefixtures("outside")
def test_an_allocation_and_a_schedule_likewise():
    masks = prune(
        nn.Linear(3, 4),
        0.5,
        criterion="my_methods:smallest_first_row",
        granularity="filter",
        allocation="my_methods:everything",
        rounds=2,
        schedule="my_methods:at_once",
    )
    assert masks["weight"].all(1).tolist() == [True, True, False, False]


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_methods:largest", "criterion 'my_methods:largest' cannot be imported: module 'my_m"),
        ("no_such_module:fn", "criterion 'no_such_module:fn' cannot be imported: No module"),
        ("my_methods:not_a_function", "'my_methods:not_a_function' is a int, not a function"),
    ],
)
def test_what_is_not_there_is_named(name, message):
    with pytest.raises(PruningError, match=message):
        prune(nn.Linear(3, 4), 0.5, criterion=name)


@pytest.mark.usefixtures("outside")
def test_a_setting_that_an_outside_criterion_lacks_is_named():
    choice = {"name": "my_methods:smallest_first_row", "power": 2}
    with pytest.raises(
        PruningError, match=r"my_methods:smallest_first_row' 'power'; choose from factor"
    ):
        prune(nn.Linear(3, 4), 0.5, criterion=choice)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda w: w.detach() * float("nan"), "criterion 'bad' returned NaN for layer 'weight'"),
        (lambda w: w.detach().flatten(), r"'bad' returned shape \(12,\) for layer 'weight'"),
        (lambda w: w.detach() > 0, r"'bad' returned torch.bool for layer 'weight', not floats"),
    ],
)
def test_what_a_criterion_may_not_return_is_named(answer, message):
    def bad(_model, params, _evidence):
        return {name: answer(weight) for name, weight in params.items()}

    with pytest.raises(PruningError, match=message):
        prune(nn.Linear(3, 4), 0.5, criterion=bad)
    wrapped = {"name": "inverted", "of": bad}
    with pytest.raises(PruningError, match=message):
        prune(nn.Linear(3, 4), 0.5, criterion=wrapped)


def test_a_missing_layer_is_named():
    with pytest.raises(PruningError, match="'<lambda>' returned no score for layer 'weight'"):
        prune(nn.Linear(3, 4), 0.5, criterion=lambda *_: {})


def test_scores_on_double_precision_are_ranked_as_such():
    model = nn.Linear(1, 3)
    close = torch.tensor([[1.0], [1.0 + 1e-12], [0.0]], dtype=torch.float64)
    masks = prune(model, 2 / 3, criterion=lambda *_: {"weight": close})
    assert masks["weight"].flatten().tolist() == [False, True, False]
