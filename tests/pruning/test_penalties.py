from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from pruning import PruningError
from pruning.penalties import penalised


def made(*values: float, **settings: bool) -> tuple[nn.Parameter, torch.optim.SGD]:
    weight = nn.Parameter(torch.tensor(values))
    return weight, torch.optim.SGD([weight], lr=1.0, **settings)


def test_the_gradient_is_read_and_added_before_each_step() -> None:
    weight, optimizer = made(8.0, -4.0)

    def halves() -> Iterator[tuple[nn.Parameter, Tensor]]:
        yield weight, weight / 2

    with penalised(optimizer, halves):
        for expected in ([3.0, -2.0], [0.5, -1.0]):
            weight.grad = torch.tensor([1.0, 0.0])
            optimizer.step()
            assert weight.tolist() == expected


def test_a_fused_optimizer_that_undoes_the_loss_scale_gets_it_scaled() -> None:
    weight, optimizer = made(1.0, fused=True)
    with penalised(optimizer, lambda: [(weight, torch.tensor([0.25]))]):
        weight.grad = torch.tensor([4.0])
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(0.0)
        optimizer.step()
    assert weight.tolist() == [0.25]  # 1 - (4 / 8 + 0.25)


def test_what_has_no_gradient_stays_and_nothing_is_left_after_an_error() -> None:
    weight, optimizer = made(1.0)
    with (
        pytest.raises(KeyError, match="stopped"),
        penalised(optimizer, lambda: [(weight, torch.ones(1))]),
    ):
        optimizer.step()
        assert weight.tolist() == [1.0]
        raise KeyError("stopped")
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert weight.tolist() == [1.0]


@pytest.mark.parametrize("by_name", [False, True])
def test_a_closure_computes_the_gradients_first(by_name: bool) -> None:
    weight, optimizer = made(8.0)

    def closure() -> float:
        optimizer.zero_grad()
        (2 * weight).sum().backward()
        return 0.5

    with penalised(optimizer, lambda: [(weight, weight / 2)]):
        value = optimizer.step(closure=closure) if by_name else optimizer.step(closure)
    assert value == 0.5
    assert weight.tolist() == [8.0 - 2.0 - 4.0]


def test_an_optimizer_that_calls_its_closure_again_is_refused() -> None:
    weight = nn.Parameter(torch.tensor([8.0]))
    optimizer = torch.optim.LBFGS([weight], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = weight.square().sum()
        value.backward()
        return value

    with (
        pytest.raises(PruningError, match="LBFGS computes gradients several times a step, which"),
        penalised(optimizer, lambda: [(weight, weight / 2)]),
    ):
        optimizer.step(closure)
