from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning import PruningError, fit
from pruning import masks as mask_tools
from pruning.choices import resolve
from pruning.during import Course, Training
from pruning.prunables import prunable
from pruning.threshold_ramp import ThresholdRamp

STEPS, QUICK = 40, {"start": 2, "ramp": 10, "end": 20, "frequency": 3}


class Reader(nn.Module):
    """Characters in, a class out, with any recurrent layer or cell in between."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, 6)
        self.recurrent = getattr(nn, kind)(6, 5)
        self.head = nn.Linear(5, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        steps = self.embedding(tokens)
        if isinstance(self.recurrent, nn.RNNBase):
            return self.head(self.recurrent(steps)[0][-1])
        state = None
        for step in steps:
            state = self.recurrent(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


def batches(start: int = 0) -> Iterator[Tensor]:
    for step in range(start, 10_000):
        yield torch.randint(0, 7, (4, 8), generator=torch.Generator().manual_seed(step))


def loss(model: nn.Module, tokens: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(tokens[:-1]), tokens[-1])


def train(
    model: nn.Module, settings: Any, *, steps: int = STEPS, look: Any = None, **changes: Any
) -> Course:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    masks = mask_tools.dense(prunable(model))
    given = {"optimizer": optimizer, "masks": masks, "sparsity": 0.9, "steps": STEPS}
    training = Training(model, **(given | {"steps_per_epoch": 4} | changes))
    with resolve("during", {"name": "rnn"} | settings)(training) as course:
        watch = [] if look is None else [lambda step, _: look(step, course)]
        hooks = [course.hook, *watch]
        begin = training.start
        fit(model, batches(begin), training.optimizer, loss, start=begin, steps=steps, hooks=hooks)
    return course


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
def test_every_gate_and_the_recurrent_weights_are_pruned(kind: str) -> None:
    model = Reader(kind)
    course = train(model, QUICK)
    recurrent = {n: mask for n, mask in course.masks.items() if n.startswith("recurrent")}
    assert {name.split(".")[1][:9] for name in recurrent} == {"weight_ih", "weight_hh"}
    for mask in recurrent.values():
        for gate in mask.split(5):
            assert 0.5 < 1 - gate.float().mean() < 1
    assert not any("bias" in name for name in course.masks)
    assert 0.8 < mask_tools.sparsity(course.masks) < 0.95
    mask_tools.verify(model, course.masks)


def test_masks_change_at_the_published_steps_by_the_published_threshold() -> None:
    model = Reader("LSTM")
    name = "recurrent.weight_hh_l0"
    weights = dict(model.named_parameters())
    q = float(weights[name].detach().abs().flatten().sort().values[round(0.9 * 100) - 1])
    ramp = ThresholdRamp(start=2, ramp=10, end=20, frequency=3)
    changed, before = [], {}

    def look(step: int, course: Course) -> None:
        mask = course.masks[name]
        kept = weights[name].detach()[mask].abs()
        if step in (3, 6, 9, 12, 15, 18):
            assert kept.min() >= ramp.threshold(step, q)
            gone = before["mask"] & ~mask
            assert not before["weights"][gone].ge(ramp.threshold(step, q) + 0.01).any()
        if "mask" in before and not torch.equal(before["mask"], mask):
            changed.append(step)
        before.update(mask=mask, weights=weights[name].detach().abs().clone())

    before.update(
        mask=torch.ones(20, 5, dtype=torch.bool), weights=weights[name].detach().abs().clone()
    )
    train(model, QUICK, look=look)
    assert changed == [3, 6, 9, 12, 15, 18]


def test_weights_pool_by_type_by_layer_or_by_gate() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        model[1].weight.copy_(torch.tensor([[5.0, 6.0], [7.0, 8.0]]))
    assert goals(model, {"quantile": 0.5}) == [4.0]
    assert goals(model, {"quantile": 0.5, "pool": "layer"}) == [2.0, 6.0]
    assert goals(model, {"q": {"0.*": 0.25, "1.*": 3}}) == [0.25, 3.0]
    cell = nn.GRUCell(1, 2)
    with torch.no_grad():
        cell.weight_ih.copy_(torch.arange(1.0, 7.0).view(6, 1))
        cell.weight_hh.copy_(-torch.arange(1.0, 13.0).view(6, 2))
    by_gate = goals(cell, {"quantile": 0.5, "pool": "gate"})
    assert by_gate == [1.0, 3.0, 5.0, 2.0, 6.0, 10.0]
    assert goals(cell, {"quantile": 0.5}) == [3.0, 6.0]


def test_q_is_read_off_the_trained_network_where_one_is_given() -> None:
    model = nn.Linear(2, 2, bias=False)
    trained = {"weight": torch.tensor([[1.0, -2.0], [3.0, 4.0]])}
    assert goals(model, {"quantile": 0.75}, trained=trained) == [3.0]
    with pytest.raises(PruningError, match="rnn: the trained weights have no 'weight'"):
        goals(model, {}, trained={"other": trained["weight"]})


def goals(model: nn.Module, settings: dict[str, Any], **changes: Any) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masks = mask_tools.dense(prunable(model))
    training = Training(model, optimizer, masks, 0.9, STEPS, 4, **changes)
    method = resolve("during", {"name": "rnn", "frequency": 1} | settings)
    with method(training) as course:
        return course.state()["q/goals"].tolist()


@pytest.mark.parametrize("stop", [5, 6, 25])
def test_a_resumed_run_ends_with_the_same_bits(stop: int) -> None:
    whole, part = Reader("GRU"), Reader("GRU")
    expected = train(whole, QUICK)
    optimizer = torch.optim.Adam(part.parameters(), lr=1e-3)
    state = deepcopy(train(part, QUICK, steps=stop, optimizer=optimizer).state())
    found = train(part, QUICK, optimizer=optimizer, start=stop, state=state)
    assert all(map(torch.equal, part.parameters(), whole.parameters()))
    assert all(torch.equal(found.masks[name], mask) for name, mask in expected.masks.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"end": 41}, "rnn: end 41 is after the last step 40"),
        ({"start": 3, "unit": "epochs"}, "rnn: start 12, ramp 10 and end 20"),
        ({"unit": "years"}, "unknown unit of rnn 'years'"),
        ({"pool": "world"}, "unknown pool of rnn 'world'; choose from type, layer, gate"),
        ({"quantile": 1.0}, r"rnn: quantile 1\.0 of the dense weights is not within \(0, 1\)"),
        ({"frequency": 100}, "frequency 100 gives no update between steps 4 and 20"),
        ({"q": {"nowhere": 1}}, "q of rnn: pattern 'nowhere' matches no layer"),
    ],
)
def test_bad_settings_are_told_before_training(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PruningError, match=message):
        train(Reader("RNN"), {"frequency": 2} | settings)


def test_a_layer_of_zeros_has_no_threshold() -> None:
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    with pytest.raises(PruningError, match=r"0\.9 quantile of the weights of 'Linear weight' is 0"):
        goals(model, {})
