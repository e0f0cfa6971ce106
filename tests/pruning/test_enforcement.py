import shutil
import sys
import sysconfig
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pruning import PruningError, enforced, enforcement, fit, prune
from pruning import masks as mask_tools
from pruning.enforcement import bits

Make = Callable[[Any], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.5),
    "adadelta": lambda p: torch.optim.Adadelta(p, weight_decay=0.1),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    )


def batch(seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(8, 1, 5, 5, generator=draw)
    return images, torch.randint(0, 3, (8,), generator=draw)


def batches(seed: int = 0) -> Any:
    return (batch(seed + k) for k in range(10_000))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]).float(), batch[1])


def random_masks(model: nn.Module, sparsity: float, seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    names = ("0.weight", "4.weight")
    params = dict(model.named_parameters())
    return {name: torch.rand(params[name].shape, generator=draw) > sparsity for name in names}


def assert_clean(
    model: nn.Module, optimizer: torch.optim.Optimizer, masks: dict[str, Tensor]
) -> None:
    params = dict(model.named_parameters())
    for name, mask in masks.items():
        assert not params[name][~mask].any(), f"{name} came back"
        for key, value in optimizer.state.get(params[name], {}).items():
            if isinstance(value, Tensor) and value.shape == mask.shape:
                assert not value[~mask].any(), f"{name}: state {key} is not clean"


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(OPTIMIZERS)),
    precision=st.sampled_from(["float32", "bfloat16", "float16"]),
    clip=st.sampled_from([None, 0.1]),
    sparsity=st.floats(0.0, 1.0),
    warm=st.integers(0, 3),
)
def test_no_pruned_weight_is_ever_seen_again(
    name: str, precision: str, clip: float | None, sparsity: float, warm: int
) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    fit(model, batches(), optimizer, loss, steps=warm)
    masks = random_masks(model, sparsity, seed=1)
    seen = []

    def look(step: int, value: Tensor) -> None:  # noqa: ARG001
        assert_clean(model, optimizer, masks)
        seen.append(step)

    with enforced(model, optimizer, masks):
        fit(
            model,
            batches(),
            optimizer,
            loss,
            steps=4,
            clip=clip,
            precision=precision,
            hooks=[look],
        )
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_kept_weights_train_on(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    masks = random_masks(model, 0.5, seed=2)
    before = deepcopy(dict(model.named_parameters()))
    with enforced(model, optimizer, masks):
        fit(model, batches(), optimizer, loss, steps=3)
    for key, mask in masks.items():
        assert (dict(model.named_parameters())[key] != before[key])[mask].float().mean() > 0.9


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(OPTIMIZERS)),
    sparsities=st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_replaced_masks_hold_and_what_comes_back_starts_at_zero(
    name: str, sparsities: list[float]
) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    params = dict(model.named_parameters())
    masks = random_masks(model, 0.5, seed=0)
    with enforced(model, optimizer, masks) as held:
        for round_, sparsity in enumerate(sparsities, start=1):
            fit(model, batches(round_), optimizer, loss, steps=2)
            old, masks = masks, random_masks(model, sparsity, seed=round_)
            held.replace(masks)
            assert_clean(model, optimizer, masks)
            for key, mask in masks.items():
                back = mask & ~old[key]
                assert not params[key][back].any()
                for value in optimizer.state[params[key]].values():
                    if isinstance(value, Tensor) and value.shape == mask.shape:
                        assert not value[back].any()
            fit(model, batches(9), optimizer, loss, steps=2)
            assert_clean(model, optimizer, masks)
    assert all(torch.equal(held.masks[key], mask) for key, mask in masks.items())


def test_a_dropped_layer_trains_freely_and_a_new_one_is_held() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    masks = random_masks(model, 0.5, seed=0)
    first, second = ({name: masks[name]} for name in ("0.weight", "4.weight"))
    with enforced(model, optimizer, first) as held:
        fit(model, batches(), optimizer, loss, steps=2)
        held.replace(second)
        fit(model, batches(), optimizer, loss, steps=2)
        assert_clean(model, optimizer, second)
    assert dict(model.named_parameters())["0.weight"][~masks["0.weight"]].all()


def test_clipping_sees_the_sparse_gradient_only() -> None:
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0]]))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    masks = {"weight": torch.tensor([[True, False]])}
    with enforced(model, optimizer, masks):
        # the gradient of the kept weight is 3, of the pruned one 4: clipped to 1 alone, not 0.6
        model(torch.tensor([[3.0, 4.0]])).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert model.weight.tolist() == [[pytest.approx(0.0, abs=1e-5), 0.0]]


def test_an_infinite_gradient_of_a_pruned_weight_does_no_harm() -> None:
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    with enforced(model, optimizer, {"weight": torch.tensor([[True, False]])}):
        (model.weight * torch.tensor([[1.0, torch.inf]])).sum().backward()
        optimizer.step()
    assert model.weight[0, 1] == 0
    assert model.weight.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_bits_are_an_exact_mask(dtype: torch.dtype) -> None:
    value = torch.tensor([1.5, -2.5, torch.nan, torch.inf, -0.0], dtype=dtype)
    kept = bits(torch.tensor([True, False, False, False, True]), value)
    value.view(kept.dtype).bitwise_and_(kept)
    assert value.tolist() == [1.5, 0.0, 0.0, 0.0, -0.0]
    with pytest.raises(PruningError, match="complex64"):
        bits(torch.ones(2, dtype=torch.bool), torch.ones(2, dtype=torch.complex64))


ODD = st.sampled_from([1.5, -2.5, float("nan"), float("inf"), float("-inf"), -0.0])

compiled = pytest.mark.skipif(
    enforcement._clearing is None, reason="there was no C compiler when this was installed"
)


def test_where_there_is_a_compiler_the_compiled_mask_was_installed() -> None:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if sys.platform != "linux" or shutil.which(compiler) is None or not headers.is_file():
        pytest.skip(f"no {compiler} or no {headers} here")
    assert enforcement._clearing is not None


@compiled
@pytest.mark.parametrize("loop", ["clear", "plain"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(st.tuples(ODD, st.booleans()), max_size=70))
def test_the_compiled_mask_gives_the_bits_of_the_bitwise_and(
    loop: str, values: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enforcement._clearing, "clear", getattr(enforcement._clearing, loop))
    gradient = torch.tensor([value for value, _ in values])
    kept = bits(torch.tensor([keep for _, keep in values], dtype=torch.bool), gradient)
    weight = nn.Parameter(torch.zeros(len(values)))
    weight.grad = gradient.clone()
    enforcement._masking(kept)(weight)
    assert torch.equal(weight.grad.view(torch.int32), gradient.view(torch.int32) & kept)


def transposed(weight: nn.Parameter) -> Tensor:  # noqa: ARG001
    return torch.full((6, 4), torch.inf).t()


def of_a_graph(weight: nn.Parameter) -> Tensor:
    return weight * torch.inf


@compiled
@pytest.mark.parametrize("arrived", [transposed, of_a_graph])
def test_gradients_that_the_compiled_mask_does_not_fit(
    arrived: Callable[[nn.Parameter], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = nn.Parameter(torch.ones(4, 6))
    mask = torch.arange(24).view(4, 6) % 3 == 0
    monkeypatch.setattr(enforcement._clearing, "clear", None)
    hook = enforcement._masking(bits(mask, weight))
    weight.grad = arrived(weight)
    hook(weight)
    assert torch.equal(weight.grad.isinf(), mask)
    assert not weight.grad[~mask].any()


@compiled
def test_a_weight_that_was_cut_meanwhile_is_an_error_and_nothing_else_is_written() -> None:
    memory = torch.ones(4, 6)
    weight = nn.Parameter(torch.ones(4, 6))
    hook = enforcement._masking(bits(torch.zeros(4, 6, dtype=torch.bool), weight))
    weight.data = weight.data[:2]
    weight.grad = memory[:2]  # of the same strides
    with pytest.raises(RuntimeError, match="size"):
        hook(weight)
    assert memory.all()


@compiled
@pytest.mark.parametrize(("given", "told"), [((0, 0, 8), "no memory"), ((1, 2), "takes values")])
def test_what_the_compiled_mask_cannot_do_is_an_error(given: tuple[int, ...], told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=told):
        enforcement._clearing.clear(*given)


@compiled
def test_without_a_compiler_a_network_trains_to_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def trained() -> list[Tensor]:
        model = network().to(memory_format=torch.channels_last)
        optimizer = OPTIMIZERS["sgd"](model.parameters())
        with enforced(model, optimizer, random_masks(model, 0.5, seed=6)):
            fit(model, batches(), optimizer, loss, steps=3)
        return list(model.parameters())

    here = trained()
    monkeypatch.setattr(enforcement, "_clearing", None)
    assert all(map(torch.equal, here, trained()))


def test_channels_last_weights_and_gradients() -> None:
    model = network().to(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS["adam"](model.parameters())
    masks = random_masks(model, 0.7, seed=5)
    with enforced(model, optimizer, masks):
        fit(model, batches(), optimizer, loss, steps=3)
    assert_clean(model, optimizer, masks)


def test_tied_weights_are_held_under_any_of_their_names() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)})
    model["b"].weight = model["a"].weight
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    masks = {"b.weight": torch.eye(3, dtype=torch.bool)}
    with enforced(model, optimizer, masks):
        for _ in range(3):
            optimizer.zero_grad()
            model["b"](model["a"](torch.ones(2, 3))).square().sum().backward()
            optimizer.step()
    assert not model["a"].weight[~masks["b.weight"]].any()


def test_a_frozen_weight_is_masked_and_left_alone() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    masks = random_masks(model, 0.5, seed=3)
    with enforced(model, optimizer, masks):
        fit(model, batches(), optimizer, loss, steps=2)
    assert_clean(model, optimizer, masks)


def test_a_weight_that_was_revived_is_told_on_exit() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    masks = prune(model, 0.5)
    with (
        pytest.raises(PruningError, match=r"pruned weights of layer '0\.weight' are not zero"),
        enforced(model, optimizer, masks),
        torch.no_grad(),
    ):
        model[0].weight.fill_(1.0)


def test_names_hooks_and_copies_are_untouched_and_nothing_stays_behind() -> None:
    model = network()
    names = list(model.state_dict())
    optimizer = OPTIMIZERS["adagrad"](model.parameters())
    with enforced(model, optimizer, prune(model, 0.5)):
        assert list(model.state_dict()) == names
        deepcopy(model)
    free = deepcopy(model)
    for either in (model, free):
        fit(either, batches(), OPTIMIZERS["sgd"](either.parameters()), loss, steps=2)
    assert all(map(torch.equal, model.parameters(), free.parameters()))
    with pytest.raises(PruningError, match="are not zero"):
        mask_tools.verify(model, prune(network(), 0.5))


def test_masks_that_do_not_fit_are_refused() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    wrong = {"4.weight": torch.ones(2, 2, dtype=torch.bool)}
    with (
        pytest.raises(PruningError, match=r"mask '4.weight' has shape \(2, 2\)"),
        enforced(model, optimizer, wrong),
    ):
        pass
    with enforced(model, optimizer, {}) as held, pytest.raises(PruningError, match="no parameter"):
        held.replace({"nowhere": torch.ones(1, dtype=torch.bool)})


def test_masks_may_be_replaced_between_a_backward_pass_and_its_step() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    masks = random_masks(model, 0.5, seed=4)
    with enforced(model, optimizer, {}) as held:
        loss(model, batch(0)).backward()
        held.replace(masks)
        optimizer.step()
        assert_clean(model, optimizer, masks)
