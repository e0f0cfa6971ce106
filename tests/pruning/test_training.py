"""One training loop: the plain one bit for bit, and what it adds."""

import pickle
from itertools import repeat

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pruning import prune
from pruning.enforcement import enforced
from pruning.errors import PruningError
from pruning.masks import verify
from pruning.training import CHECK_EVERY, Diverged, _check_finite, at, evaluate, every, fit


class Scalar(nn.Module):
    """One weight, so that every number can be worked out by hand."""

    def __init__(self, value=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))


def product(model, batch):
    return (model.weight * batch).sum()


def numbers(*values):
    return iter([torch.tensor([value]) for value in values])


def sgd(model, lr=1.0, **settings):
    return torch.optim.SGD(model.parameters(), lr=lr, **settings)


def classifier():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def batches(count):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randn(4, 5, generator=generator), torch.randint(3, (4,), generator=generator)


def entropy(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def test_steps_by_hand():
    model = Scalar(10.0)
    fit(model, numbers(1.0, 2.0, 3.0, 4.0), sgd(model, lr=0.5), product, steps=3)
    assert model.weight.tolist() == [10 - 0.5 * (1 + 2 + 3)]


def test_equals_the_bare_loop_bit_for_bit():
    ours, bare = classifier(), classifier()
    fit(ours, batches(20), sgd(ours, lr=0.1, momentum=0.9), entropy, steps=20)
    optimizer = sgd(bare, lr=0.1, momentum=0.9)
    for batch in batches(20):
        optimizer.zero_grad()
        entropy(bare, batch).backward()
        optimizer.step()
    for one, other in zip(ours.parameters(), bare.parameters(), strict=True):
        assert torch.equal(one, other)


def test_only_the_steps_asked_for_are_taken():
    model, source = Scalar(), numbers(1.0, 1.0, 7.0)
    fit(model, source, sgd(model), product, start=3, steps=5)
    assert model.weight.tolist() == [-1.0]
    assert next(source).item() == 7.0
    fit(model, source, sgd(model), product, start=5, steps=5)
    assert model.weight.tolist() == [-1.0]


def test_the_rate_of_every_step_and_group():
    model = nn.ModuleList([Scalar(), Scalar()])
    optimizer = torch.optim.SGD([{"params": [m.weight], "lr": 9.0} for m in model])
    seen = []

    def watch(step, _):
        seen.append((step, [group["lr"] for group in optimizer.param_groups]))

    def loss(models, batch):
        return sum(product(m, batch) for m in models)

    settings = {"start": 4, "steps": 6, "lr": lambda step: step / 4, "hooks": [watch]}
    fit(model, numbers(1.0, 1.0), optimizer, loss, **settings)
    assert seen == [(5, [1.0, 1.0]), (6, [1.25, 1.25])]
    assert model[0].weight.tolist() == [1 - 1.0 - 1.25]


def test_clipping_bounds_the_norm_and_leaves_small_gradients():
    model = Scalar(0.0)
    fit(model, numbers(30.0, 0.25), sgd(model), product, steps=2, clip=0.5)
    torch.testing.assert_close(model.weight.detach(), torch.tensor([-0.75]))


def test_clipping_is_over_all_parameters_together():
    model = nn.ModuleList([Scalar(0.0), Scalar(0.0)])

    def loss(models, _):
        return 3 * models[0].weight.sum() + 4 * models[1].weight.sum()

    fit(model, numbers(0.0), sgd(model), loss, steps=1, clip=1.0)
    found = torch.cat([m.weight.detach() for m in model])
    torch.testing.assert_close(found, torch.tensor([-0.6, -0.8]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_loss_that_is_no_number_stops_before_the_step(value, precision):
    model = Scalar(4.0)
    optimizer = sgd(model, lr=1.0, momentum=0.9)
    seen = []
    with pytest.raises(Diverged, match=rf"the loss became {value} at step 7") as error:
        fit(
            model,
            numbers(1.0, 1.0, value, 1.0),
            optimizer,
            product,
            start=5,
            steps=9,
            precision=precision,
            hooks=[lambda step, _: seen.append(step)],
        )
    assert error.value.step == 7
    assert model.weight.tolist() == pytest.approx([4 - 1.0 - 1.9])
    assert optimizer.state[model.weight]["momentum_buffer"].item() == pytest.approx(1.9)
    assert seen == [6, 7]


def test_divergence_crosses_process_borders():
    error = pickle.loads(pickle.dumps(Diverged(12, float("inf"))))
    assert (error.step, error.loss, str(error)) == (
        12,
        float("inf"),
        "the loss became inf at step 12",
    )
    assert isinstance(error, PruningError)


def test_an_accelerator_is_asked_now_and_then():
    nan = torch.tensor(float("nan"))
    _check_finite(nan, CHECK_EVERY + 1, every=CHECK_EVERY)
    for step, period in [(0, CHECK_EVERY), (CHECK_EVERY, CHECK_EVERY), (3, 1)]:
        with pytest.raises(Diverged):
            _check_finite(nan, step, every=period)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_precision_is_that_of_the_forward_pass_alone(precision, dtype):
    model, seen = classifier(), set()
    before = [parameter.detach().clone() for parameter in model.parameters()]

    def loss(network, batch):
        output = network(batch[0])
        seen.add(output.dtype)
        return cross_entropy(output, batch[1])

    fit(model, batches(5), sgd(model, lr=0.1), loss, steps=5, precision=precision, clip=1.0)
    assert seen == {dtype}
    reference = classifier()
    fit(reference, batches(5), sgd(reference, lr=0.1), entropy, steps=5, clip=1.0)
    for ours, exact, start in zip(model.parameters(), reference.parameters(), before, strict=True):
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, start)
        torch.testing.assert_close(ours, exact, atol=5e-3, rtol=0.05)


def test_float16_scales_tiny_gradients_out_of_the_underflow():
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)

    def loss(network, batch):
        return network(batch).float().sum() * 1e-8  # 1e-8 is zero in float16

    fit(
        model,
        iter([torch.ones(1, 1)]),
        sgd(model, lr=1e7),
        loss,
        steps=1,
        precision="float16",
    )
    assert model.weight.item() == pytest.approx(0.9, rel=1e-2)


def test_an_unknown_precision_tells_the_choices():
    model = Scalar()
    with pytest.raises(PruningError, match="unknown precision 'half'; choose from float32, bfl"):
        fit(model, numbers(1.0), sgd(model), product, steps=1, precision="half")


def test_hooks_are_called_after_each_step_in_order():
    model, seen = Scalar(2.0), []

    def first(step, loss):
        seen.append((step, loss.item(), model.weight.item(), loss.requires_grad))

    fit(
        model,
        numbers(1.0, 3.0),
        sgd(model),
        product,
        steps=2,
        hooks=[first, lambda step, _: seen.append(step)],
    )
    assert seen == [(1, 2.0, 1.0, False), 1, (2, 3.0, -2.0, False), 2]


def test_every_and_at():
    model, periodic, chosen = Scalar(), [], []
    hooks = [
        every(3, lambda step, _: periodic.append(step)),
        at([1, 5, 99], lambda step, _: chosen.append(step)),
    ]
    fit(model, repeat(torch.ones(1)), sgd(model), product, steps=7, hooks=hooks)
    assert (periodic, chosen) == ([3, 6], [1, 5])


def test_batches_that_end_are_told():
    model = Scalar()
    with pytest.raises(PruningError, match="the batches ended at step 2 of 5"):
        fit(model, numbers(1.0, 1.0), sgd(model), product, steps=5)


def test_training_is_in_training_mode():
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)).eval()
    fit(model, batches(1), sgd(model), entropy, steps=1)
    assert model[1].num_batches_tracked == 1


def test_evaluation_by_hand():
    # Logits are the images: right, right, wrong; log(1 + 1/e) = 0.313262, log(1 + e) = 1.313262.
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    split = iter([(images[:2], labels[:2]), (images[2:], labels[2:])])
    loss, accuracy = evaluate(nn.Identity(), split)
    assert loss == pytest.approx((2 * 0.3132617 + 1.3132617) / 3)
    assert accuracy == pytest.approx(2 / 3)


def test_evaluation_neither_trains_nor_changes_any_mode():
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.9), nn.Linear(8, 3))
    model.train()
    model[1].eval()  # frozen statistics, as in fine-tuning
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, other = (evaluate(model, batches(3)) for _ in range(2))
    assert one == other
    assert [module.training for module in model] == [True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_evaluation_that_fails_puts_the_mode_back():
    model = classifier().train()
    with pytest.raises(RuntimeError):
        evaluate(model, iter([(torch.ones(2, 4), torch.zeros(2).long())]))
    assert model.training


def test_evaluation_on_nothing_is_told():
    with pytest.raises(PruningError, match="no batches to evaluate on"):
        evaluate(classifier(), iter([]))


def test_a_batch_that_the_model_refuses_is_told_in_one_line_with_its_shape():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = iter([(torch.ones(1, 3), torch.tensor([0]))])
    told = r"Sequential cannot train on the batch of step 0, \(1, 3\), \(1,\): Expected more than 1"
    with pytest.raises(PruningError, match=told) as caught:
        fit(model, batches, optimizer, entropy, steps=1)
    assert "\n" not in str(caught.value)


def test_compiled_training_ends_where_the_other_does():
    def trained(compile: str | None) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
        draw = torch.Generator().manual_seed(1)
        inputs = (torch.randn(4, 6, generator=draw) for _ in range(6))
        seen = []

        def square(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
            seen.append(type(network).__name__)
            return network(batch).square().mean()

        optimizer = sgd(model, lr=0.1, momentum=0.9)
        masks = prune(model, 0.5)
        with enforced(model, optimizer, masks):
            fit(model, inputs, optimizer, square, steps=6, compile=compile)
        assert set(seen) == {"Sequential" if compile is None else "OptimizedModule"}
        verify(model, masks)
        return model

    plain, compiled = trained(None), trained("default")
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for left, right in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_what_was_compiled_of_one_model_leaves_the_hooks_of_another_alone():
    def last(factor: float | None, compile: str | None) -> float:
        torch.manual_seed(0)
        model, losses = nn.Sequential(nn.Linear(1, 1)), []
        if factor is not None:
            model[0].register_forward_hook(lambda _, __, output: factor * output)
        rest = {"compile": compile, "hooks": [lambda _, loss: losses.append(loss.item())]}
        batches, optimizer = numbers(1.0), sgd(model)
        fit(model, batches, optimizer, lambda network, x: network(x).sum(), steps=1, **rest)
        return losses[0]

    factors = (None, 2.0, 3.0, None)
    plain = [last(factor, None) for factor in factors]
    assert len(set(plain)) == 3
    assert [last(factor, "default") for factor in factors] == pytest.approx(plain)


def test_an_unknown_way_to_compile_tells_the_choices():
    model = nn.Linear(2, 1)
    with pytest.raises(PruningError, match="unknown way to compile 'fast'; choose from default, "):
        fit(model, numbers(1.0), sgd(model), product, steps=1, compile="fast")
