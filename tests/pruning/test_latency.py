"""Time and memory of a forward: what is known beforehand comes out."""

from time import sleep

import pytest
import torch
from torch import nn

from pruning.errors import PruningError
from pruning.latency import compare, forward, peak_activation_bytes, threads_of


def test_the_median_and_the_quartiles_of_calls_of_known_length():
    found = compare({"short": lambda: sleep(0.002), "long": lambda: sleep(0.006)}, repeats=9)
    assert 0.002 <= found["short"].low <= found["short"].median <= found["short"].high
    assert 0.006 <= found["long"].median < 0.06
    assert found["long"].median > 1.5 * found["short"].median
    assert (found["short"].calls, found["short"].warmup, found["short"].threads) == (9, 5, 1)


def test_each_is_warmed_up_and_then_they_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    compare(calls, repeats=3, warmup=2)
    assert "".join(order) == "aabb" + "ba" + "ab" + "ba"


def test_a_short_call_is_timed_for_as_long_as_asked():
    found = compare({"only": lambda: sleep(0.001)}, repeats=2, warmup=3, seconds=0.02)
    assert 10 <= found["only"].calls <= 20


def test_it_runs_on_the_threads_that_it_says_and_puts_them_back():
    before, seen = torch.get_num_threads(), []
    compare({"only": lambda: seen.append(torch.get_num_threads())}, repeats=1, threads=2)
    assert set(seen) == {2}
    assert torch.get_num_threads() == before
    with pytest.raises(KeyError), threads_of(2):
        raise KeyError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"warmup": 0}, {"threads": -1}])
def test_a_senseless_number_is_named(wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(PruningError, match=f"{name} {value}: give a whole number"):
        compare({"only": lambda: None}, **wrong)


def test_a_forward_is_in_eval_mode_and_leaves_the_model_in_training():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.9)).train()
    example = torch.randn(4, 3)
    torch.testing.assert_close(forward(model, example)(), example, rtol=0, atol=1e-4)
    assert model.training and float(model[0].num_batches_tracked) == 0


def test_peak_of_a_chain_counted_by_hand():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    # Floats alive while ReLU returns: the input (4), its own input (8), its output (8).
    assert peak_activation_bytes(model, torch.zeros(1, 4)) == 4 * (4 + 8 + 8)
    assert peak_activation_bytes(model, torch.zeros(3, 4)) == 3 * 4 * (4 + 8 + 8)


def test_peak_counts_a_storage_once_and_no_weights():
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(100))

        def forward(self, x):
            return x.reshape(2, -1), x[:1], self.weight.reshape(10, 10), x.relu_()

    assert peak_activation_bytes(Views(), torch.zeros(6)) == 4 * 6


def test_peak_frees_what_nothing_holds():
    class Chain(nn.Module):
        def forward(self, x):
            for _ in range(50):
                x = x + 1
            return x

    # The input, held from outside, the old x and the new one.
    assert peak_activation_bytes(Chain(), torch.zeros(1000)) == 3 * 4000
