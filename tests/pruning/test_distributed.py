"""Two processes that train one network together, against one that trains it alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pruning import distributed
from pruning.errors import PruningError
from tests.pruning import distributed_ranks as ranks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return what each of two ranks found, and its weights and masks."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    module = ("-m", "tests.pruning.distributed_ranks", str(folder))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        (*torchrun, *module), cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = []
    for rank in range(2):
        facts = json.loads((folder / f"rank-{rank}.json").read_text())
        tensors = torch.load(folder / f"rank-{rank}.pt", weights_only=True)
        found.append(facts | tensors)
    return found


def test_masks_are_rank_0s(both):
    expected = ranks.masks(ranks.network(), seed=0)
    for rank in both:
        for name, mask in expected.items():
            assert torch.equal(rank["masks"][name], mask)


def test_ranks_end_with_the_same_bits_and_revive_nothing(both):
    assert both[0]["equal"] == both[1]["equal"] == ""
    for name, weight in both[0]["weights"].items():
        assert torch.equal(weight, both[1]["weights"][name])
    for name, mask in both[0]["masks"].items():
        assert int((both[0]["weights"][name][~mask] != 0).sum()) == 0


def test_learned_noise_is_the_same_on_all_ranks_and_their_samples_are_counted_together(both):
    assert [rank["noisy"] for rank in both] == ["", ""]
    assert [rank["samples"] for rank in both] == [4 * (ranks.BATCH + 1)] * 2


def test_they_train_as_one_process_does_on_the_same_batches(both):
    alone = ranks.network()
    losses = ranks.trained(alone, ranks.masks(alone, seed=0), together=False)
    assert both[0]["losses"] == both[1]["losses"]
    assert both[0]["losses"] == pytest.approx(losses, rel=1e-5)
    assert losses[0] - losses[-1] > 0.05  # something was learned
    for name, weight in alone.state_dict().items():
        torch.testing.assert_close(both[0]["weights"][name], weight, rtol=1e-4, atol=1e-6)


def test_a_batch_of_eleven_gives_six_and_five(both):
    assert [rank["part"] for rank in both] == [[6, 6], [5, 5]]


def test_the_first_tensor_that_differs_is_named_on_every_rank(both):
    for rank in both:
        assert rank["value"] == "rank 1 differs from rank 0 in 'odd'"
        assert rank["shape"] == "rank 1 differs from rank 0: 'odd'"
        assert rank["missing"] == "rank 1 differs from rank 0: 'more'"


def test_a_nan_that_one_rank_sees_stops_both_at_the_same_step(both):
    assert [rank["diverged"] for rank in both] == [3, 3]


def test_running_statistics_are_averaged(both):
    assert [rank["mean"] for rank in both] == [0.5, 0.5]


def test_alone_a_batch_is_whole_and_an_empty_one_refused():
    batch = {"x": torch.zeros(3, 2), "names": "ab"}
    assert distributed.part(batch)["x"].shape == (3, 2)
    assert (distributed.rank(), distributed.processes()) == (0, 1)
    with pytest.raises(PruningError, match="0 samples in a batch do not feed 1 ranks"):
        distributed.part(torch.zeros(0, 2))
