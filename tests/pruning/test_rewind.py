"""Going back is exact: every bit of weights, statistics and optimizer, and of what follows."""

import copy
from functools import partial
from itertools import islice

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pruning.enforcement import enforced
from pruning.errors import PruningError
from pruning.pruner import prune
from pruning.rewind import Snapshot, capture, restore
from pruning.training import at, fit

OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "nesterov": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "adam": partial(torch.optim.Adam, lr=1e-2, amsgrad=True),
    "adamw": partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1),
    "nadam": partial(torch.optim.NAdam, lr=1e-2),
    "rmsprop": partial(torch.optim.RMSprop, lr=1e-3, momentum=0.9, centered=True),
}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
    )


def stream(start):
    """Yield endless batches, each a function of its step alone."""
    for step in range(start, 10**6):
        generator = torch.Generator().manual_seed(step)
        yield (
            torch.randn(6, 1, 4, 4, generator=generator),
            torch.randint(4, (6,), generator=generator),
        )


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def rate(step):
    return 0.1 / (1 + step)


def train(model, optimizer, start, steps, hooks=()):
    fit(
        model,
        stream(start),
        optimizer,
        loss,
        start=start,
        steps=steps,
        lr=rate,
        clip=1.0,
        hooks=hooks,
    )


def bits(tensors):
    """Return every tensor as its bytes, so that -0.0 differs from 0.0 and NaN equals itself."""
    return {
        name: (value.dtype, tuple(value.shape), value.detach().numpy().tobytes())
        for name, value in tensors.items()
    }


def everything(model, optimizer):
    snapshot = capture(model, optimizer, 0)
    return bits(snapshot.model) | bits(snapshot.optimizer)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_from_a_snapshot_is_the_original_run(kind):
    model, snapshots = network(), []
    optimizer = OPTIMIZERS[kind](model.parameters())
    hook = at({4}, lambda step, _: snapshots.append(capture(model, optimizer, step)))
    train(model, optimizer, 0, 9, [hook])
    other = network(seed=1)
    fresh = OPTIMIZERS[kind](other.parameters())
    train(other, fresh, 0, 2)  # state of its own, which must not survive
    step = restore(other, snapshots[0], optimizer=fresh)
    assert step == 4
    assert everything(other, fresh) == bits(snapshots[0].model) | bits(snapshots[0].optimizer)
    train(other, fresh, step, 9)
    assert everything(other, fresh) == everything(model, optimizer)


def test_a_masked_run_goes_on_the_same_too():
    model, snapshots = network(), []
    masks = prune(model, 0.7)
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    hook = at({3}, lambda step, _: snapshots.append(capture(model, optimizer, step)))
    with enforced(model, optimizer, masks):
        train(model, optimizer, 0, 8, [hook])
    other = network(seed=1)
    fresh = OPTIMIZERS["momentum"](other.parameters())
    step = restore(other, snapshots[0], optimizer=fresh, masks=masks)
    with enforced(other, fresh, masks):
        train(other, fresh, step, 8)
    ours, theirs = capture(other, fresh, 8), capture(model, optimizer, 8)
    # Pruned zeros may differ in their sign: what trains is equal to the bit.
    for found, expected in [(ours.model, theirs.model), (ours.optimizer, theirs.optimizer)]:
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_kept_weights_are_the_snapshots_bits_and_pruned_ones_zero():
    model = network()
    with torch.no_grad():
        model[0].weight.view(-1)[:4] = torch.tensor([-0.0, 1e-45, -1e-45, 1e-38])
    snapshot = capture(model, None, 0)
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    train(model, optimizer, 0, 5)
    masks = prune(model, 0.6)
    masks["0.weight"].view(-1)[:4] = True
    restore(model, snapshot, masks=masks)
    for name, parameter in model.named_parameters():
        original = snapshot.model[name]
        mask = masks.get(name, torch.ones_like(parameter, dtype=torch.bool))
        kept = parameter[mask].detach().numpy().tobytes()
        assert kept == original[mask].numpy().tobytes()
        assert not bool(parameter[~mask].any())


def test_batch_statistics_go_back_too():
    model = network()
    snapshot = capture(model, None, 0)
    train(model, OPTIMIZERS["sgd"](model.parameters()), 0, 3)
    assert model[1].num_batches_tracked == 3
    restore(model, snapshot)
    assert model[1].num_batches_tracked == 0
    assert bits(model.state_dict()) == bits(snapshot.model)


def test_a_snapshot_shares_no_memory():
    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    train(model, optimizer, 0, 2)
    snapshot = capture(model, optimizer, 2)
    before = bits(snapshot.model) | bits(snapshot.optimizer)
    train(model, optimizer, 2, 4)
    assert bits(snapshot.model) | bits(snapshot.optimizer) == before
    restore(model, snapshot, optimizer=optimizer, masks=prune(model, 0.5))
    train(model, optimizer, 2, 4)
    assert bits(snapshot.model) | bits(snapshot.optimizer) == before
    assert not any(value.requires_grad for value in snapshot.model.values())


def test_momentum_is_by_name_not_by_position():
    model = network()
    backwards = [*model.parameters()][::-1]
    first = OPTIMIZERS["momentum"](model.parameters())
    train(model, first, 0, 2)
    snapshot = capture(model, first, 2)
    second = OPTIMIZERS["momentum"](backwards)
    restore(model, snapshot, optimizer=second)
    for parameter in model.parameters():
        buffer = second.state[parameter]["momentum_buffer"]
        assert torch.equal(buffer, first.state[parameter]["momentum_buffer"])


def test_step_zero_leaves_no_state_behind():
    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    snapshot = capture(model, optimizer, 0)
    train(model, optimizer, 0, 2)
    assert restore(model, snapshot, optimizer=optimizer) == 0
    assert not optimizer.state


def test_tied_weights_stay_tied():
    model = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 4, bias=False))
    model[1].weight = model[0].weight
    snapshot = capture(model, None, 0)
    with torch.no_grad():
        model[0].weight.zero_()
    restore(model, snapshot)
    assert model[1].weight is model[0].weight
    assert torch.equal(model[0].weight, snapshot.model["1.weight"])


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (nn.Sequential(nn.Linear(3, 2)), r"'0\.weight' has shape \(4, 2\) there, \(2, 3\) here"),
        (nn.Sequential(nn.Linear(2, 4, bias=False)), r"'0\.bias' has shape \(4,\) there, None"),
        (nn.Sequential(nn.Linear(2, 4), nn.PReLU()), r"'1\.weight' has shape None there, \(1,\)"),
    ],
)
def test_a_snapshot_of_another_model_is_refused_and_changes_nothing(other, told):
    snapshot = capture(nn.Sequential(nn.Linear(2, 4)), None, 7)
    before = bits(copy.deepcopy(other).state_dict())
    with pytest.raises(PruningError, match=f"step 7 is of another model: {told}"):
        restore(other, snapshot)
    assert bits(other.state_dict()) == before


def test_state_for_a_parameter_that_is_not_there_is_refused():
    model = nn.Linear(2, 2)
    snapshot = Snapshot(0, capture(model, None, 0).model, {"gone/momentum_buffer": torch.ones(2)})
    with pytest.raises(PruningError, match="optimizer state for 'gone', the model does not"):
        restore(model, snapshot, optimizer=OPTIMIZERS["sgd"](model.parameters()))


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS.keys() - {"sgd"}))
def test_state_goes_where_its_parameter_is_and_counts_of_steps_stay(kind):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.scale = nn.Parameter(torch.ones(2)), nn.Parameter(torch.tensor(1.0))

    model, moved = Scaled(), Scaled().to("meta")
    optimizer, other = (OPTIMIZERS[kind](each.parameters()) for each in (model, moved))
    (model.weight.sum() * model.scale).backward()
    optimizer.step()
    snapshot = Snapshot(1, moved.state_dict(), capture(model, optimizer, 1).optimizer)
    restore(moved, snapshot, optimizer=other)
    assert {*other.state} == {*moved.parameters()}
    for parameter in moved.parameters():
        for key, value in other.state[parameter].items():
            assert value.device.type == ("cpu" if key in ("step", "mu_product") else "meta")


def test_an_optimizer_whose_state_is_no_tensor_is_refused():
    model = nn.Linear(2, 2)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    optimizer.state[model.weight]["history"] = [1, 2]
    with pytest.raises(PruningError, match=r"optimizer state 'history' of 'weight' is no tensor"):
        capture(model, optimizer, 0)


def test_masks_that_do_not_fit_are_refused():
    model = nn.Linear(2, 3)
    with pytest.raises(PruningError, match=r"mask 'weight' has shape \(2, 3\)"):
        restore(model, capture(model, None, 0), masks={"weight": torch.ones(2, 3).bool()})


def test_the_stream_is_a_function_of_the_step():
    first, second = ([*islice(stream(2), 3)], [*islice(stream(3), 2)])
    assert torch.equal(first[1][0], second[0][0])
