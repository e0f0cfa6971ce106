"""Rounds as the stages go through them: a quarter of what is left each, and when it stops."""

import json
import re

import pytest

from pruning.network import load
from stages import finetune, prune

QUARTERS = ["75.00", "56.25", "42.19", "31.64", "23.73", "17.80", "13.35", "13.35"]
LINE = re.compile(r"round (\d) fold 0: .*?(\d+) of (\d+) weights kept, ([\d.]+) % remaining")


def test_a_quarter_a_round_until_more_than_85_percent_is_pruned(tiny):
    row = {
        "prune": {"fraction": {"rate": 0.25, "until": 0.85}, "allocation": "layerwise"},
        "finetune": {"weights": "final", "resume": "end", "epochs": 1},
    }
    study = tiny.params(row, rounds=[{"n": n, "from": n - 1} for n in range(1, 9)])
    tiny.start(study)
    remaining, stopped = [], []
    for n in range(1, 9):
        pruned, tuned = tiny.prune(study, n), tiny.recover(study, n)
        (first,) = prune.lines(pruned.parent, n, [0])
        second = finetune.line(tuned.parent, n, 0)
        assert LINE.match(first).groups() == LINE.match(second).groups()
        assert f"round {n} fold 0: rewound to nothing, " in second
        remaining.append(LINE.match(first)[4])
        stopped.append(first.endswith("(the schedule has stopped)"))
        for mask in load(tuned).masks.values():
            assert abs(int(mask.sum()) - mask.numel() * 0.75 ** min(n, 7)) <= 0.5
        facts = json.loads((tuned / "metrics.json").read_text())
        assert facts["target_sparsity"] == pytest.approx(1 - 0.75 ** min(n, 7), abs=1e-12)
        assert (facts["recovery_steps"] == 0) == (n == 8)
    assert remaining == QUARTERS
    assert stopped == [False] * 7 + [True]
    seventh, eighth = (tuned.parents[2] / f"round-{n}" / "tuned" / "fold-0" for n in (7, 8))
    weights = [(folder / "weights.safetensors").read_bytes() for folder in (seventh, eighth)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("allocation", ["global", "layerwise", "erk"])
def test_each_round_prunes_on_from_the_one_before_and_reaches_its_target(tiny, allocation):
    study = tiny.params({"prune": {"allocation": allocation}})
    tiny.start(study)
    before = None
    for n, sparsity in ((1, 0.5), (2, 0.8)):
        tiny.prune(study, n)
        network = load(tiny.recover(study, n))
        weights = sum(mask.numel() for mask in network.masks.values())
        kept = sum(int(mask.sum()) for mask in network.masks.values())
        slack = 0.5 * (len(network.masks) if allocation == "layerwise" else 1)
        assert abs(kept - weights * (1 - sparsity)) <= slack
        for name, mask in network.masks.items():
            assert not network.model.get_parameter(name)[~mask].any()
            assert before is None or not (mask & ~before[name]).any()
        before = network.masks


def test_one_shot_rounds_each_start_from_the_dense_network(tiny):
    study = tiny.params({"finetune": {"resume": "start"}}, iterative=[], one_shot=["row"])
    tiny.start(study)
    tiny.prune(study, 1)
    tiny.recover(study, 1)
    after = (tiny.prune(study, 2) / "masks.safetensors").read_bytes()
    import shutil

    shutil.rmtree("work/row/round-1")
    assert (tiny.prune(study, 2) / "masks.safetensors").read_bytes() == after


def test_masks_that_miss_the_target_are_refused(tiny, monkeypatch):
    from pruning.errors import PruningError
    from stages.fold import masking

    study = tiny.params()
    tiny.start(study)
    true = masking.masks_of_round

    def one_more(*settings):
        masks = true(*settings)
        first = next(iter(masks.values()))
        first.view(-1)[int(first.view(-1).int().argmin())] = True
        return masks

    monkeypatch.setattr(masking, "masks_of_round", one_more)
    with pytest.raises(PruningError, match=r"\d+ of 50200 weights kept where sparsity 0\.5 asks"):
        tiny.prune(study)
