"""The portable artefact: the same logits bit for bit, and nothing that does not fit."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from pruning import masks as mask_tools
from pruning.errors import PruningError
from pruning.network import Network, load, read_masks, save, write
from pruning.pruner import prune

FACTORY = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.embedding = nn.Embedding(3, 4 * width)
        self.head = nn.Linear(4 * width, 3, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))

def tiny(*, width=5):
    return Tied(width)
"""
SPEC = {"factory": "tiny_networks:tiny", "width": 5}
FILES = ("network.json", "weights.safetensors", "masks.safetensors")
IMAGES = torch.randn(7, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the factory of another package on the path, and out of memory afterwards."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "tiny_networks.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path / "path")
    yield
    sys.modules.pop("tiny_networks", None)


def network(sparsity: float = 0.7, seed: int = 0) -> Network:
    from tiny_networks import tiny

    torch.manual_seed(seed)
    model = tiny()
    model(IMAGES)  # statistics that are not those of a fresh network
    masks = prune(model, sparsity, allocation="layerwise")
    mask_tools.apply(model, masks)
    return Network(model.eval(), masks, SPEC, (1, 4, 4))


@torch.no_grad()
def logits(model: nn.Module) -> bytes:
    return model(IMAGES.to(next(model.parameters()).dtype)).view(torch.uint8).numpy().tobytes()


def saved(folder: Path, **settings) -> Network:
    original = network(**settings)
    save(original, folder)
    return original


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_loaded_network_gives_the_same_logits_bit_for_bit(tmp_path: Path):
    original = saved(tmp_path / "net")
    loaded = load(tmp_path / "net", foreign=True)
    assert logits(loaded.model) == logits(original.model)
    assert loaded.masks.keys() == original.masks.keys()
    assert all(torch.equal(loaded.masks[name], mask) for name, mask in original.masks.items())
    assert (loaded.spec, loaded.input_shape) == (SPEC, (1, 4, 4))
    assert not loaded.model.training
    assert loaded.model.head.weight is loaded.model.embedding.weight


def test_the_packages_own_networks_need_no_leave(tmp_path: Path):
    from pruning.models import build

    spec = {"factory": "lenet5", "num_classes": 4}
    torch.manual_seed(0)
    model = build(spec).eval()
    masks = prune(model, 0.9, allocation="layerwise")
    mask_tools.apply(model, masks)
    save(Network(model, masks, spec, (1, 28, 28)), tmp_path / "net")
    images = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "net").model(images), model(images))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_precision_comes_back(tmp_path: Path, dtype):
    original = network()
    original.model.to(dtype)
    with torch.no_grad():
        original.model.conv.bias.add_(1 / 3)
    save(original, tmp_path / "net")
    loaded = load(tmp_path / "net", foreign=True)
    assert loaded.model.conv.weight.dtype == dtype
    assert loaded.model.head.weight is loaded.model.embedding.weight
    assert logits(loaded.model) == logits(original.model)


def test_pruning_goes_on_from_a_loaded_network(tmp_path: Path):
    saved(tmp_path / "net", sparsity=0.5)
    loaded = load(tmp_path / "net", foreign=True)
    masks = prune(loaded.model, 0.8, previous=loaded.masks, allocation="layerwise")
    assert [row.kept for row in mask_tools.layers(masks)] == [9, 12]  # of 45 and of 60
    assert not any(bool((masks[name] & ~loaded.masks[name]).any()) for name in masks)
    mask_tools.apply(loaded.model, masks)
    save(Network(loaded.model, masks, loaded.spec, loaded.input_shape), tmp_path / "net")
    again = load(tmp_path / "net", foreign=True)
    assert logits(again.model) == logits(loaded.model)


def test_a_loaded_network_trains(tmp_path: Path):
    saved(tmp_path / "net")
    model = load(tmp_path / "net", foreign=True).model.train()
    model(IMAGES).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p is not model.norm.weight)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path):
    for name in ("one", "two"):
        saved(tmp_path / name)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(FILES)


def test_masks_are_bits_and_weights_have_the_dense_names(tmp_path: Path):
    original = saved(tmp_path / "net")
    from safetensors.torch import load_file

    bits = load_file(tmp_path / "net" / "masks.safetensors")
    assert bits["conv.weight"].numel() == 6  # 45 weights
    weights = load_file(tmp_path / "net" / "weights.safetensors")
    assert weights.keys() == original.model.state_dict().keys()


def test_masks_are_read_without_building_anything(tmp_path: Path):
    original = saved(tmp_path / "net")
    sys.modules.pop("tiny_networks")
    found = read_masks(tmp_path / "net")
    assert "tiny_networks" not in sys.modules
    assert all(torch.equal(found[name], mask) for name, mask in original.masks.items())


@pytest.mark.parametrize("settings", [{}, {"foreign": False}])
def test_a_foreign_factory_is_not_even_imported(tmp_path: Path, settings):
    saved(tmp_path / "net")
    sys.modules.pop("tiny_networks")
    with pytest.raises(PruningError, match="'tiny_networks:tiny' is another package's code"):
        load(tmp_path / "net", **settings)
    assert "tiny_networks" not in sys.modules


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named(tmp_path: Path, name, share):
    saved(tmp_path / "net")
    path = tmp_path / "net" / name
    content = path.read_bytes()
    path.write_bytes(content[: min(int(share * len(content)), len(content) - 2)])
    with pytest.raises(PruningError, match=str(path)):
        load(tmp_path / "net", foreign=True)


@pytest.mark.parametrize("name", FILES)
def test_absent_and_foreign_files_are_named(tmp_path: Path, name):
    saved(tmp_path / "net")
    path = tmp_path / "net" / name
    for content in (b"\x80\x04K\x01.", b'["a list"]', b"3", None):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(PruningError, match=str(path)):
            load(tmp_path / "net", foreign=True)


def test_an_absent_folder_is_named(tmp_path: Path):
    with pytest.raises(PruningError, match="nowhere"):
        load(tmp_path / "nowhere")


def edit(folder: Path, change) -> None:
    facts = json.loads((folder / "network.json").read_text())
    change(facts)
    (folder / "network.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.update(format=3), "not a network of format 1"),
        (lambda f: f.pop("format"), "not a network of format 1"),
        (lambda f: f.pop("model"), r"lacks \['model'\]"),
        (lambda f: f.update(masks=[]), "model and masks must be mappings"),
        (lambda f: f.update(model="tiny"), "model and masks must be mappings"),
        (lambda f: f.update(input_shape=4), "input_shape has the shape 4, no list of sizes"),
        (lambda f: f["masks"].update({"conv.weight": [5, -9]}), r"conv\.weight has the shape"),
        (lambda f: f["masks"].update({"conv.weight": "abc"}), r"conv\.weight has the shape 'abc'"),
        (lambda f: f["masks"].update({"conv.weight": [5, True]}), r"conv\.weight has the shape"),
        (lambda f: f["masks"].update({"conv.weight": [5, 1, 3, 4]}), "bytes .* are not the bits"),
        (lambda f: f["masks"].update({"conv.weight": [5, 9]}), r"shape \(5, 9\), its parameter"),
        (lambda f: f["masks"].pop("conv.weight"), r"holds masks .*network\.json says"),
        (lambda f: f["masks"].update({"more": [1]}), r"holds masks .*network\.json says"),
        (lambda f: f["model"].update(width=6), "the weights do not fit the model: .*size mismatch"),
        (lambda f: f["model"].update(height=6), "'height'; choose from width"),
        (lambda f: f["model"].update(factory="no_such_model"), "unknown model 'no_such_model'"),
        (lambda f: f["model"].update(factory=7), "names no factory"),
        (lambda f: f["model"].update(factory="os:getcwd", width=None), "argument|width"),
    ],
)
def test_edited_facts_are_refused_in_one_line(tmp_path: Path, change, told):
    saved(tmp_path / "net")
    edit(tmp_path / "net", change)
    with pytest.raises(PruningError, match=told) as error:
        load(tmp_path / "net", foreign=True)
    assert "\n" not in str(error.value)


def test_files_of_two_networks_do_not_mix(tmp_path: Path):
    saved(tmp_path / "one", sparsity=0.5, seed=0)
    saved(tmp_path / "two", sparsity=0.9, seed=1)
    stranger = (tmp_path / "two" / "masks.safetensors").read_bytes()
    (tmp_path / "one" / "masks.safetensors").write_bytes(stranger)
    with pytest.raises(PruningError, match=r"one: .* pruned weights of layer .* are not zero"):
        load(tmp_path / "one", foreign=True)


@pytest.mark.parametrize(
    ("masks", "told"),
    [
        ({"conv.weight": torch.zeros(5, 1, 3, 3).bool()}, "pruned weights of layer 'conv.weight'"),
        ({"conv.weight": torch.ones(5, 1, 3, 4).bool()}, r"has shape \(5, 1, 3, 4\)"),
        ({"other.weight": torch.ones(2).bool()}, r"no parameter 'other\.weight'"),
        ({"conv.weight": torch.ones(5, 1, 3, 3)}, r"expected torch\.bool"),
    ],
)
def test_what_does_not_fit_is_not_even_written(tmp_path: Path, masks, told):
    original = network()
    with pytest.raises(PruningError, match=told):
        save(Network(original.model, masks, SPEC), tmp_path / "net")
    assert [path.name for path in tmp_path.iterdir()] == ["path"]


def test_masks_under_a_tied_weight_s_second_name_come_back(tmp_path: Path):
    original = network()
    masks = dict(original.masks)
    masks["head.weight"] = masks.pop("embedding.weight")
    save(Network(original.model, masks, SPEC), tmp_path / "net")
    found = load(tmp_path / "net", foreign=True).masks
    assert torch.equal(found["embedding.weight"], masks["head.weight"])
    assert found.keys() == original.masks.keys()


@pytest.mark.parametrize("size", [0, 300, 1000])
def test_a_full_disk_leaves_the_old_network_whole(tmp_path: Path, size):
    original = saved(tmp_path / "net")
    assert sum((tmp_path / "net" / name).stat().st_size > size for name in FILES) >= 1
    with files_of_at_most(size), pytest.raises(PruningError, match="cannot be written"):
        save(network(sparsity=0.9, seed=1), tmp_path / "net")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "path"]
    assert logits(load(tmp_path / "net", foreign=True).model) == logits(original.model)


def test_a_disk_that_is_really_full(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk can only be mounted by root")
    try:
        original = saved(disk / "net")
        (disk / "ballast").write_bytes(bytes(4096))
        with pytest.raises(PruningError, match="cannot be written"):
            save(network(sparsity=0.9, seed=1), disk / "net")
        assert logits(load(disk / "net", foreign=True).model) == logits(original.model)
        assert sorted(path.name for path in disk.iterdir()) == ["ballast", "net"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_somebody_elses_folder_is_not_replaced(tmp_path: Path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("years of work")
    with pytest.raises(PruningError, match="thesis: holds something else than a network"):
        saved(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    saved(tmp_path / "empty")


def test_written_beside_the_files_of_a_stage(tmp_path: Path):
    original = network()
    (tmp_path / "fold-0").mkdir()
    (tmp_path / "fold-0" / "metrics.json").write_text("{}")
    write(original, tmp_path / "fold-0")
    assert logits(load(tmp_path / "fold-0", foreign=True).model) == logits(original.model)
    assert (tmp_path / "fold-0" / "metrics.json").read_text() == "{}"


def test_two_lines_are_enough(tmp_path: Path):
    import pruning

    saved(tmp_path / "net")
    found = pruning.load(tmp_path / "net", foreign=True)
    assert isinstance(found, pruning.Network)
