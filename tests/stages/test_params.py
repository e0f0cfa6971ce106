"""Bad params.yaml: one line that names the file, the key, the value and the choices."""

import copy
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pruning import datasets, granularity
from pruning.errors import PruningError
from stages.params import read, settings

ROOT = Path(__file__).parents[2]
ROW = "methods.row"

VALID = {
    "study": "small",
    "data": {"name": "digits"},
    "cross_validation": {"folds": 2, "seed": 0},
    "model": {"factory": "digits_conv", "width": 4},
    "training": {"epochs": 2, "learning_rate": {"base": 0.1}},
    "snapshots": {"steps": [5], "epochs": [1]},
    "rounds": [{"n": 1, "from": 0, "sparsity": 0.5}, {"n": 2, "from": 1, "sparsity": 0.8}],
    "experiments": ["row"],
    "iterative": ["row"],
    "one_shot": [],
    "control": None,
    "methods": {"row": {"rewind": "init", "prune": {}, "finetune": {"epochs": 1}}},
}


def write(folder: Path, changes: dict) -> Path:
    """Write the valid params with the values at dotted keys changed."""
    params = copy.deepcopy(VALID)
    for key, value in changes.items():
        *steps, last = key.split(".")
        part = params
        for step in steps:
            part = part[int(step)] if isinstance(part, list) else part[step]
        part[int(last) if isinstance(part, list) else last] = value
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return path


def refusal(path: Path) -> str:
    """Return the one line in which a file is refused, without the folder."""
    with pytest.raises(PruningError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def test_the_valid_params_are_valid(tmp_path):
    assert read(write(tmp_path, {})).rounds[1].sparsity == 0.8


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("colour", 1, ["unknown key", "study", "rounds"]),
        ("data.colour", 1, ["unknown key", "root", "test_fraction"]),
        (f"{ROW}.colour", 1, ["unknown key", "rewind", "finetune"]),
        (f"{ROW}.prune.colour", 1, ["unknown key", "granularity"]),
        ("data.name", "mnist", ["'mnist'", "MNIST", "folder"]),
        ("data.test_fraction", 1.0, ["1.0", "less than 1"]),
        ("cross_validation.folds", 0, ["0", "greater than or equal to 1"]),
        ("cross_validation.folds", "3", ["'3'", "integer"]),
        ("cross_validation.seed", -1, ["-1", "greater than or equal to 0"]),
        ("model.factory", "resnet2", ["'resnet2'", "resnet20", "package.module:function"]),
        ("model.widht", 4, ["'widht'", "width"]),
        ("model.width", "wide", ["'wide'", "no number"]),
        ("training", None, ["None", "epochs", "learning_rate"]),
        ("training.epochs", "many", ["'many'", "integer"]),
        ("training.optimizer", {"name": "sdg"}, ["'sdg'", "'sgd'", "'adamw'"]),
        ("training.optimizer", {"momentun": 0.9}, ["'momentun'", "momentum", "nesterov"]),
        ("training.optimizer", {"lr": 0.1}, ["'lr'", "weight_decay"]),
        ("training.optimizer", {"momentum": "much"}, ["'much'", "no number"]),
        ("training.learning_rate", 0.1, ["0.1", "base"]),
        ("training.learning_rate.base", float("nan"), ["nan"]),
        ("training.learning_rate.base", float("inf"), ["inf", "finite"]),
        ("training.learning_rate.name", "cosin", ["'cosin'", "cosine"]),
        ("training.learning_rate.gama", 0.1, ["'gama'", "no settings"]),
        ("training.augment", ["rotate"], ["'rotate'", "'flip'"]),
        ("training.device", "tpu", ["'tpu'", "cpu", "cuda"]),
        ("training.initialization", "xavier", ["'xavier'", "orthogonal"]),
        ("snapshots.epochs", [3], ["3", "2 epochs"]),
        ("rounds", [], ["[]", "at least 1"]),
        ("rounds.0.sparsity", 1.0, ["1.0", "less than 1"]),
        ("rounds.0.sparsity", -0.1, ["-0.1", "greater than or equal to 0"]),
        ("rounds.0.sparsity", 95, ["95", "less than 1"]),
        ("rounds.0.sparsity", "half", ["'half'", "number"]),
        ("rounds.0.sparsity", float("nan"), ["nan"]),
        ("rounds.0.n", "1; touch pwned", ["'1; touch pwned'", "integer"]),
        ("experiments", [], ["[]", "at least 1"]),
        ("control", "nobody", ["'nobody'", "row"]),
        (f"{ROW}.rewind", {"epoch": 2}, ["epoch 2", "0, 1"]),
        (f"{ROW}.rewind", {"step": 4}, ["step 4", "0, 5"]),
        (f"{ROW}.rewind", {"step": True}, ["True", "step: k"]),
        (f"{ROW}.rewind", "start", ["'start'", "init", "best", "final", "step: k", "epoch: k"]),
        (f"{ROW}.prune.criterion", "magnitud", ["'magnitud'", "magnitude", "random"]),
        (f"{ROW}.prune.criterion", {"name": "lp_norm", "q": 1}, ["'q'", "choose from p"]),
        (f"{ROW}.prune.criterion", {"name": "lp_norm", "p": "one"}, ["'one'", "no number"]),
        (f"{ROW}.prune.criterion", 3, ["3", "name"]),
        (f"{ROW}.prune.allocation", "globl", ["'globl'", "global", "layerwise"]),
        (f"{ROW}.prune.allocation", "per_layer", ["'per_layer'", "needs", "'ratios'"]),
        (f"{ROW}.prune.granularity", "wieght", ["'wieght'", "weight", "filter", "N:M"]),
        (f"{ROW}.prune.granularity", "4:2", ["'4:2'", "N:M"]),
        (f"{ROW}.prune.schedule", "geometrc", ["'geometrc'", "geometric"]),
        (f"{ROW}.prune.during", "sof", ["'sof'", "soft"]),
        (f"{ROW}.prune.fraction", {"rate": 1.5, "until": 0.9}, ["1.5", "less than 1"]),
        (f"{ROW}.prune.on_collapse", "ignore", ["'ignore'", "'warn'", "'error'"]),
        (f"{ROW}.finetune.weights", "initial", ["'initial'", "'rewound'", "'reinitialised'"]),
        (f"{ROW}.finetune.resume", "begin", ["'begin'", "'end'", "'start'"]),
        (f"{ROW}.finetune", {"resume": "end"}, ["epochs must be given"]),
        ("tracking", "yes", ["'yes'", "boolean"]),
        ("checkpoint_minutes", -1, ["-1", "greater than or equal to 0"]),
    ],
)
def test_a_bad_setting_is_refused_by_key_value_and_choices(tmp_path, key, value, told):
    text = refusal(write(tmp_path, {key: value}))
    named = key.removesuffix(".name")
    # where an item of a list or of a mapping is to blame, its place follows the key
    assert text.startswith(named) or text.startswith(named.rpartition(".")[0] + ":"), text
    for part in told:
        assert part in text


RESERVED = ["dense", "given", "checked.json"]
BAD_NAMES = ["a; touch pwned", "$(touch pwned)", "a b", "../../victim", "/etc", "..", ".", "-rf"]


@pytest.mark.parametrize("name", [*BAD_NAMES, "", "a\n", "`x`", "a|b", "a/b", "a\\b", *RESERVED])
def test_a_name_that_would_be_a_path_or_a_command_is_refused(tmp_path, name):
    text = refusal(write(tmp_path, {"experiments": [name], "iterative": [name]}))
    assert text.startswith(f"experiments.0: {name!r}")
    if name not in RESERVED:
        assert refusal(write(tmp_path, {"study": name})).startswith(f"study: {name!r}")


def test_rounds_count_from_one_and_never_fall(tmp_path):
    assert "expected n: 2, from: 1" in refusal(write(tmp_path, {"rounds.1.from": 0}))
    assert "must not fall" in refusal(write(tmp_path, {"rounds.1.sparsity": 0.4}))


def test_an_experiment_is_either_iterative_or_one_shot(tmp_path):
    assert "each in one of the three lists" in refusal(write(tmp_path, {"one_shot": ["row"]}))
    assert "each in one of the three lists" in refusal(write(tmp_path, {"iterative": []}))


def test_the_best_epoch_is_kept_where_all_epochs_have_the_same_masks(tmp_path):
    best = {"epochs": 1, "keep": "best"}
    changes = {f"{ROW}.finetune": best, f"{ROW}.prune": {"during": "rigl"}}
    text = refusal(write(tmp_path, changes))
    assert text.startswith(f"{ROW}: finetune.keep: best ")
    assert text.endswith("prune.during: rigl; keep: last, or during: hard, none, slimming")
    read(write(tmp_path, {f"{ROW}.finetune": best}))


def test_a_schedule_resumes_at_steps_of_the_same_batches(tmp_path):
    changes = {f"{ROW}.finetune": {"resume": "rewound", "batch_size": 32}}
    text = refusal(write(tmp_path, changes))
    assert text.startswith(f"{ROW}.finetune.batch_size: 32 with resume: rewound, ")
    assert text.endswith("training.batch_size: 64; use 64, or resume: start or end")
    read(write(tmp_path, {f"{ROW}.finetune": {"resume": "rewound", "batch_size": 64}}))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not a mapping"),
        ("- 1", "not a mapping"),
        ("a: [", "line 1"),
        ("study: a\nstudy: b", "'study' is there twice"),
        ('study: !!python/object/apply:os.system ["touch pwned"]', "constructor"),
        (b"study: \xff", "utf-8"),
    ],
)
def test_a_file_that_is_no_params_is_refused(tmp_path, monkeypatch, text, told):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert told in refusal(path)
    assert not Path("pwned").exists()
    path.unlink()
    assert "No such file" in refusal(path)


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    path = write(tmp_path, {})
    text = path.read_text().replace("base: 0.1", "base: 1e-3").replace("{}", "{granularity: 2:4}")
    path.write_text(text)
    params = read(path)
    # yaml 1.1, PyYAML's, takes them for the text "1e-3" and for 124, in sixties
    assert params.training.learning_rate.base == 0.001
    assert params.method("row").prune.granularity == "2:4"


def test_what_is_checked_early_is_what_there_is():
    import torch

    assert settings.DATASETS == datasets.NAMES
    assert set(settings.PIECES) == set(granularity.GRANULARITIES)
    of_torch = {"lr", "maximize", "foreach", "capturable", "differentiable", "fused"}
    from stages.fold.fitting import OPTIMIZERS

    assert settings.OPTIMIZERS.keys() == OPTIMIZERS.keys()
    for name, known in settings.OPTIMIZERS.items():
        signature = inspect.signature(getattr(torch.optim, OPTIMIZERS[name]))
        assert set(known) == set(signature.parameters) - of_torch - {"params"}, name


def test_the_command_says_one_line_and_exits_with_two(tmp_path):
    write(tmp_path, {f"{ROW}.prune.criterion": "magnitud"})
    command = [sys.executable, "-m", "stages.check"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: params.yaml: methods.row.prune.criterion: unknown criterion")
    assert not (tmp_path / "work").exists()
