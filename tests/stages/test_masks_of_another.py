"""Controls that take the masks of another experiment: shuffled, or under fresh weights."""

import json
from pathlib import Path

import pytest
import torch

from pruning.errors import PruningError
from pruning.network import load
from stages import files, finetune, prune, snapshot
from stages.reporting import dry_run, sanity, wording

from .conftest import ROW, new, quiet

CONTROLS = [{"experiment": name, "of": "row"} for name in ("shuffled", "fresh")]
ROWS = {
    "shuffled": {
        "rewind": "final",
        "prune": {"shuffle": True},
        "finetune": {"weights": "final", "resume": "end", "epochs": 1},
    },
    "fresh": {
        "rewind": "init",
        "prune": {},
        "finetune": {"weights": "reinitialised", "resume": "start"},
    },
}


def study_with(tiny, **changes):
    given = {"experiments": ["row", *ROWS], "controls": CONTROLS, **changes}
    return tiny.params(methods={"row": ROW, **ROWS}, **given)


def round_of(study, experiment: str, n: int) -> Path:
    start = new(files.start_of(experiment) / "fold-0")
    start.rmdir()
    snapshot.lay_out(files.DENSE / "fold-0", start, study.method(experiment).rewind)
    pruned = new(files.pruned(experiment, n) / "fold-0")
    prune.prune_fold(study, experiment, n, pruned, Path("resume"), 0, quiet)
    tuned = new(files.tuned(experiment, n) / "fold-0")
    finetune.recover_fold(study, experiment, n, tuned, Path("resume"), 0, quiet)
    return tuned


def test_the_masks_of_a_round_shuffled_and_under_fresh_weights(tiny):
    study = study_with(tiny)
    tiny.start(study)
    for n in (1, 2):
        tiny.prune(study, n)
        theirs = load(tiny.recover(study, n)).masks
        fresh = load(round_of(study, "fresh", n))
        assert all(torch.equal(fresh.masks[name], mask) for name, mask in theirs.items())
        shuffled = load(round_of(study, "shuffled", n)).masks
        for name, mask in theirs.items():
            assert int(shuffled[name].sum()) == int(mask.sum())
            assert not torch.equal(shuffled[name], mask)
    said = dry_run.report(study, "shuffled", 2, 0)
    assert said[0].startswith("shuffled, round 2, fold 0: the masks of row, shuffled within layers")
    for line, mask in zip(said[1:], theirs.values(), strict=False):
        assert f" keeps {int(mask.sum())} of " in line
    facts = json.loads((files.tuned("fresh", 2) / "fold-0" / "metrics.json").read_text())
    assert facts["sparsity"] == facts["target_sparsity"] == pytest.approx(0.8, abs=1e-4)
    assert not facts["stopped"]


def test_it_counts_as_the_control_of_the_one_whose_masks_it_takes(tiny):
    assert sanity.controls(study_with(tiny)) == {"row": ["shuffled", "fresh"]}


def test_the_report_says_whose_masks_they_are(tiny):
    row, shuffled, fresh = wording.experiments(study_with(tiny)).splitlines()
    assert row.startswith("- **row**: iterative, single weights by magnitude, global; then ")
    assert shuffled.startswith("- **shuffled**: the masks of row, shuffled within layers; then ")
    assert fresh.startswith("- **fresh**: the masks of row; then training from fresh weights")


def test_its_runs_are_others_once_that_one_changes(tiny):
    from stages.groups import of_experiment

    study = study_with(tiny)
    changed = study_with(tiny, row={"prune": {"criterion": "random"}})
    assert of_experiment(study, "fresh") != of_experiment(changed, "fresh")


@pytest.mark.parametrize("of", ["shuffled", "nobody"])
def test_masks_come_from_an_experiment_that_makes_its_own(tiny, of):
    controls = [CONTROLS[0], {"experiment": "fresh", "of": of}]
    with pytest.raises(PruningError, match=f"'{of}' has no masks of its own for 'fresh'; choose"):
        study_with(tiny, controls=controls)
