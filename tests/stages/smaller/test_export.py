"""The network handed on, smaller for real: the same outputs in every format, and counted."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from pruning.compressed import read_compressed
from pruning.facts import read_json
from pruning.macs import macs
from pruning.network import load
from stages.export import export
from stages.params import read
from stages.reporting import summary
from tests.stages.smaller.conftest import SMALLER

EXAMPLE = torch.zeros(1, 1, 8, 8)
ROOT = Path(__file__).parents[3]

ALONE = """
import sys
for name in ("stages", "pydantic", "typer", "yaml", "mlflow", "dvc", "pandas"):
    sys.modules[name] = None
import torch, pruning
from safetensors.torch import load_file
found = load_file("images.safetensors")
network = pruning.load("network")
with torch.no_grad():
    assert torch.equal(network.model(found["images"]), found["logits"])
print("same")
"""


def masked(study, exported):
    facts = read_json(exported / "metrics.json")
    where = f"work/groups/round-{facts['round']}/tuned/fold-{facts['fold']}"
    return load(study.folder / where)


def images():
    return torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_it_is_the_network_that_validation_chose(inside, exported):
    params = read(inside.folder / "params.yaml")
    results = summary.collect(params.model_copy(update={"experiments": ["groups"]}))
    n = summary.chosen(summary.summarise(results, None), "groups")
    own = results[(results["experiment"] == "groups") & (results["round"] == n)]
    facts = read_json(exported / "metrics.json")
    assert facts["round"] == n
    assert facts["fold"] == own.loc[own["validation_accuracy"].idxmax(), "fold"]
    assert facts["test_accuracy"] == own.set_index("fold")["test_accuracy"][facts["fold"]]


def test_the_folder_loads_without_the_stages_and_gives_the_same_logits(study, exported, tmp_path):
    network = load(exported / "network")
    original = masked(study, exported)
    with torch.no_grad():
        logits, expected = network.model(images()), original.model(images())
    assert torch.allclose(logits, expected, atol=1e-5 * float(expected.abs().max()))
    assert network.model.conv1.weight.shape[0] < original.model.conv1.weight.shape[0]
    (tmp_path / "network").symlink_to(exported / "network")
    save_file({"images": images(), "logits": logits}, tmp_path / "images.safetensors")
    where = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ALONE]
    done = subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True)
    assert done.stdout == "same\n", done.stderr


def test_what_was_gained_is_counted(study, exported):
    facts = read_json(exported / "metrics.json")
    small, dense = load(exported / "network").model, masked(study, exported).model
    for name, model in (("shrunk", small), ("dense", dense)):
        assert facts[f"parameters_{name}"] == sum(p.numel() for p in model.parameters())
        assert facts[f"macs_{name}"] == macs(model, EXAMPLE)
    assert facts["bytes_shrunk"] == (exported / "network" / "weights.safetensors").stat().st_size
    assert facts["bytes_shrunk"] < facts["bytes_dense"]
    # a batch of 32 images and what the widest layer makes of it, once convolved and once normed
    width = dense.conv1.weight.shape[0]
    assert facts["activation_bytes_dense"] >= 32 * width * 64 * 4
    assert facts["activation_bytes_shrunk"] < facts["activation_bytes_dense"]
    layers = pd.read_csv(exported / "macs.csv").set_index("layer")
    assert layers["macs_dense"].sum() == facts["macs_dense"]
    assert layers["macs_shrunk"].sum() == facts["macs_shrunk"]
    # eight filters of 3 x 3 over one channel of 8 x 8
    assert layers.loc["conv1", "macs_dense"] == 8 * 9 * 64
    assert "linear.weight" in (exported / "pinned.csv").read_text()


def test_weights_without_zeros_are_the_weights(exported):
    state = load(exported / "network").model.state_dict()
    found = read_compressed(exported / "compressed.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_exported_again_gives_the_same_bytes(inside, exported):
    before = {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()}
    export(experiment="groups", params=inside.folder / "params.yaml")
    assert {path: path.read_bytes() for path in exported.rglob("*") if path.is_file()} == before


def test_a_named_network_goes_into_a_folder_of_its_own(inside, capsys):
    params = copy.deepcopy(SMALLER) | {"export": [], "exporting": {"formats": ["csr"]}}
    path = inside.write(params, "other.yaml")
    export(experiment="alone", round_=1, fold=1, params=path)
    folder = inside.folder / "exports" / "alone" / "round-1-fold-1"
    assert "round 1, fold 1" in capsys.readouterr().out
    assert (folder / "csr.safetensors").is_file()
    assert not (folder / "model.onnx").exists()
    kept = load(folder / "network").model
    assert (
        0
        < macs(kept, EXAMPLE)
        <= 0.6 * macs(load(folder.parents[2] / "work/dense/fold-1").model, EXAMPLE)
    )


def test_all_forms_are_timed_side_by_side(study, exported):
    folder = study.folder / "results" / "gains" / "groups"
    table = pd.read_csv(folder / "latency.csv")
    forms = {"dense", "dense ONNX", "masked", "ONNX", "shrunk"}
    assert set(table["network"]) == forms
    assert set(table["batch"]) == {1, 32}
    assert (table["low_ms"] <= table["median_ms"]).all()
    assert (table["median_ms"] <= table["high_ms"]).all()
    assert (table["calls"] >= SMALLER["exporting"]["repeats"]).all()
    assert (table["warmup"] == 5).all()
    assert set(table.loc[table["network"] == "shrunk", "round"]) == {1, 2}
    facts = read_json(folder / "metrics.json")
    one = table[(table["network"] == "dense") & (table["batch"] == 32)]["median_ms"].iloc[0]
    n = facts["round"]
    ours = table[(table["network"] == "shrunk") & (table["batch"] == 32) & (table["round"] == n)]
    assert facts["speedup_shrunk_batch_32"] == pytest.approx(one / ours["median_ms"].iloc[0])
    assert facts["macs_shrunk"] == read_json(exported / "metrics.json")["macs_shrunk"]
    assert (folder / "latency.png").stat().st_size > 0


def test_the_report_says_what_was_gained(inside, exported, tmp_path):
    from stages.reporting import gains_report

    text = gains_report.write(read(inside.folder / "params.yaml"), tmp_path)
    facts = read_json(exported / "metrics.json")
    dense, left = facts["macs_dense"], facts["macs_shrunk"]
    assert f"{left:,} of {dense:,} ({100 * left / dense:.1f} %)" in text
    assert "![test accuracy against measured latency](latency.png)" in text
    for name in ("gains.csv", "gains.json", "latency.csv", "latency.png"):
        assert (tmp_path / name).stat().st_size > 0
    none = inside.write(copy.deepcopy(SMALLER) | {"export": []}, "none.yaml")
    assert gains_report.write(read(none), tmp_path) == ""


def test_weights_masked_singly_take_less_on_disk(tmp_path):
    from pruning import Network, prune, save
    from pruning import masks as mask_tools
    from pruning.models import build
    from pruning.sparse_tensors import read_csr
    from stages.fold.shrunk import counts, shrunk, write_files
    from stages.params.export_params import Exporting

    torch.manual_seed(0)
    model = build({"factory": "digits_conv"})
    masks = prune(model, 0.9, allocation="layerwise")
    mask_tools.apply(model, masks)
    save(Network(model, masks, {"factory": "digits_conv"}, (1, 8, 8)), tmp_path / "masked")
    pair = shrunk(tmp_path / "masked")
    settings = Exporting(formats=["compressed", "csr", "semi_structured"])
    found = write_files(pair, settings, tmp_path)
    facts = counts(pair, 1, tmp_path)
    assert facts["bytes_compressed"] < facts["bytes_dense"] / 3
    assert not (tmp_path / "dense.safetensors").exists()
    matrices = read_csr(tmp_path / "csr.safetensors")
    assert sum(m.values().numel() for m in matrices.values()) == facts["weights_kept_shrunk"]
    assert found["semi_structured_layers"] == 0
    assert "conv1.weight: only linear layers have a sparse kernel" in found["semi_structured_not"]
    assert "linear.weight: its mask is not 2:4" in found["semi_structured_not"]
