"""Every recovery is a point of weights x resume; each is seen at the start of its training."""

import csv
import shutil
from itertools import product

import pytest
import torch

from pruning.facts import read_json
from pruning.network import load
from stages import files
from stages.fold import fitting, snapshots

WEIGHTS, RESUME = ("final", "rewound", "reinitialised"), ("end", "rewound", "start")
PER_EPOCH = 4  # 160 digits train in each of three folds, in batches of 40
LAYER = "1.weight"
REWIND_STEP = PER_EPOCH  # the row rewinds to epoch 1


class Seen:
    """The network, its optimizer's state, the steps and the rates with which training begins."""

    def __call__(self, model, batches, optimizer, loss, **settings):
        self.model = {name: value.clone() for name, value in model.state_dict().items()}
        named = {parameter: name for name, parameter in model.named_parameters()}
        self.momentum = {
            named[parameter]: state["momentum_buffer"].clone()
            for parameter, state in optimizer.state.items()
        }
        self.start, self.steps = settings["start"], settings["steps"]
        self.rates = [settings["lr"](step) for step in range(self.start, self.steps)]
        return FIT(model, batches, optimizer, loss, **settings)


FIT = fitting.fit


@pytest.fixture
def seen(monkeypatch):
    """Watch how training begins."""
    watching = Seen()
    monkeypatch.setattr(fitting, "fit", watching)
    return watching


def history(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_recovery_starts_from_what_compensation_made_of_the_kept_weights(tiny, seen):
    found = {}
    for compensation in ("none", "l_obs"):
        study = tiny.params(
            {
                "prune": {"criterion": "l_obs", "compensation": compensation},
                "finetune": {"weights": "final", "resume": "end", "epochs": 1},
            }
        )
        start, pruned = tiny.start(study), tiny.prune(study)
        tiny.recover(study)
        before, dense = load(pruned), load(start)
        for name, value in before.model.state_dict().items():
            assert torch.equal(seen.model[name], value)
        for name, mask in before.masks.items():
            kept = before.model.get_parameter(name)[mask]
            same = torch.equal(kept, dense.model.get_parameter(name)[mask])
            assert same == (compensation == "none")
        found[compensation] = read_json(pruned / "metrics.json"), before.masks
    (plain, masks), (better, others) = found.values()
    assert all(torch.equal(mask, others[name]) for name, mask in masks.items())
    assert better["validation_loss_before_recovery"] < plain["validation_loss_before_recovery"]


@pytest.mark.parametrize(("weights", "resume"), [*product(WEIGHTS, RESUME)])
def test_what_training_starts_from(tiny, seen, weights, resume):
    settings = {"weights": weights, "resume": resume}
    study = tiny.params({"finetune": settings | ({"epochs": 2} if resume == "end" else {})})
    start, pruned = tiny.start(study), tiny.prune(study)
    recovered = tiny.recover(study)
    snapshot, before = snapshots.read(start / "rewind.safetensors"), load(pruned)
    assert snapshot.step == REWIND_STEP
    origin = {"final": before.model.state_dict(), "rewound": snapshot.model}.get(weights)
    for name, mask in before.masks.items():
        assert not seen.model[name][~mask].any()
        if origin is not None:
            assert torch.equal(seen.model[name][mask], origin[name][mask])
        else:
            assert not torch.isin(seen.model[name][mask], before.model.state_dict()[name]).all()
    first, last = {
        "end": (0, 2 * PER_EPOCH),
        "rewound": (REWIND_STEP, 3 * PER_EPOCH),
        "start": (0, 3 * PER_EPOCH),
    }[resume]
    assert (seen.start, seen.steps) == (first, last)
    # 0.1 for two epochs, then a tenth of it; fine-tuning goes on with the last rate
    whole = [0.1] * 2 * PER_EPOCH + [0.01] * PER_EPOCH
    rates = [0.01] * 2 * PER_EPOCH if resume == "end" else whole[first:]
    assert seen.rates == pytest.approx(rates)
    if (weights, resume) == ("rewound", "rewound"):
        for name, momentum in seen.momentum.items():
            expected = snapshot.optimizer[f"{name}/momentum_buffer"] * before.masks.get(name, 1)
            assert torch.equal(momentum, expected)
        assert any(momentum.any() for momentum in seen.momentum.values())
    else:
        assert seen.momentum == {}
    rows = history(recovered)
    steps = [int(row["step"]) for row in rows if row["split"] == "validation"]
    assert steps == list(range(first + PER_EPOCH, last + 1, PER_EPOCH))
    assert {int(row["epoch"]) for row in rows} == {step // PER_EPOCH for step in steps}


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005},
        {"name": "adam"},
        {"name": "adamw", "weight_decay": 0.01},
    ],
    ids=lambda optimizer: optimizer["name"],
)
def test_rewound_and_nothing_pruned_is_the_dense_run_again(tiny, optimizer):
    rate = {"base": 0.001, "name": "cosine"}
    training = tiny.settings("training", optimizer=optimizer, learning_rate=rate)
    study = tiny.params(training=training, rounds=[{"n": 1, "from": 0, "sparsity": 0.0}])
    dense = load(tiny.dense(study)).model.state_dict()
    tiny.start(study)
    tiny.prune(study)
    recovered = load(tiny.recover(study)).model.state_dict()
    assert all(torch.equal(recovered[name], dense[name]) for name in dense)
    tiny.dense(tiny.params())


@pytest.mark.parametrize(
    ("rewind", "step"),
    [
        ("init", 0),
        ({"step": 0}, 0),
        ({"step": 5}, 5),
        ({"epoch": 1}, PER_EPOCH),
        ("best", None),
        ("final", 3 * PER_EPOCH),
    ],
)
def test_the_rewind_point_is_the_snapshot_of_training(tiny, rewind, step):
    start = tiny.start(tiny.params({"rewind": rewind, "finetune": {"resume": "start"}}))
    snapshot = snapshots.read(start / "rewind.safetensors")
    rows = [row for row in history(files.DENSE / "fold-0") if row["split"] == "validation"]
    best = max(rows, key=lambda row: float(row["accuracy"]))
    assert snapshot.step == (int(best["step"]) if step is None else step)
    dense = load(files.DENSE / "fold-0").model.state_dict()
    assert all(torch.equal(load(start).model.state_dict()[name], dense[name]) for name in dense)
    same = [torch.equal(snapshot.model[name], dense[name]) for name in dense]
    assert all(same) == (snapshot.step == 3 * PER_EPOCH)


def test_the_initialisation_is_what_the_seed_gives(tiny):
    from stages.fold.models import fresh

    study = tiny.params({"rewind": "init"})
    snapshot = snapshots.read(tiny.start(study) / "rewind.safetensors")
    drawn = fresh(study.model, {"name": "own"}, 0, "cpu").state_dict()
    assert all(torch.equal(snapshot.model[name], drawn[name]) for name in drawn)
    assert snapshot.optimizer == {}


def test_a_step_that_training_never_reaches_is_refused_with_those_kept(tiny):
    from pruning.errors import PruningError

    study = tiny.params({"rewind": {"step": 999}}, snapshots={"steps": [999], "epochs": [1]})
    with pytest.raises(PruningError, match=r"'step-999'; choose from best, epoch-1, final, step-0"):
        tiny.start(study)


def test_nothing_left_to_train_is_told(tiny):
    from pruning.errors import PruningError

    study = tiny.params({"rewind": "final"})
    tiny.start(study)
    tiny.prune(study)
    with pytest.raises(PruningError, match="resumes at step 12 of 12; rewind to an earlier"):
        tiny.recover(study)


@pytest.mark.parametrize("name", ["kaiming", "variance_scaling", "orthogonal", "own"])
def test_fresh_weights_are_drawn_by_the_initialisation_and_anew_each_round(tiny, seen, name):
    row = {"weights": "reinitialised", "resume": "start", "initialization": name}
    study = tiny.params({"finetune": row})
    drawn = []
    tiny.start(study)
    for n in (1, 2):
        tiny.prune(study, n)
        tiny.recover(study, n)
        drawn.append(seen.model[LAYER])
    mask = load(files.pruned("row", 2) / "fold-0").masks[LAYER]
    assert not torch.equal(drawn[0][mask], drawn[1][mask])


def test_of_several_processes_one_alone_reads_what_it_has_put_in_place(tiny, monkeypatch, capsys):
    from stages import finetune
    from stages.engine import folds

    tiny.params()
    shutil.rmtree(files.tuned("row", 1), ignore_errors=True)
    monkeypatch.setattr(folds, "run", lambda *_, **__: None)
    monkeypatch.setenv("RANK", "1")
    finetune.finetune("row", 1, None, tiny.home / "params.yaml")
    assert capsys.readouterr().out == ""
