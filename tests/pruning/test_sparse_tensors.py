"""Masked weights as sparse tensors: the same products, and a reason for what stays dense."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pruning import PruningError, prune
from pruning import masks as mask_tools
from pruning.sparse_tensors import csr, read_csr, semi_structured, two_of_four, write_csr

CUDA = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


def test_csr_by_hand():
    model = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    mask = torch.tensor([[True, False, True], [False, True, False]])
    matrix = csr(model, {"0.weight": mask, "0.bias": torch.tensor([True, False])})["0.weight"]
    assert matrix.crow_indices().tolist() == [0, 2, 3]
    assert matrix.col_indices().tolist() == [0, 2, 1]
    assert matrix.values().tolist() == [1.0, 3.0, 5.0]


def test_csr_files_hold_the_products_of_the_masked_network(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.ConvTranspose2d(4, 6, 2))
    masks = prune(model, 0.8)
    mask_tools.apply(model, masks)
    write_csr(tmp_path / "csr.safetensors", csr(model, masks))
    found = read_csr(tmp_path / "csr.safetensors")
    patch = torch.randn(12)
    expected = model[0].weight.detach().flatten(1) @ patch
    assert torch.allclose(found["0.weight"] @ patch[:, None], expected[:, None], atol=1e-6)
    # a transposed convolution has its outputs along dimension 1: a row for each
    assert found["2.weight"].shape == (6 * 2 * 2, 4)
    assert found["2.weight"].values().numel() == int(masks["2.weight"].sum())


def test_a_dense_layer_is_no_csr_matrix():
    model = nn.Linear(2, 2)
    assert csr(model, {"weight": torch.ones(2, 2, dtype=torch.bool)}) == {}


def test_csr_takes_masks_of_either_name_of_a_tied_weight_and_of_no_other_model():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert csr(model, {"1.weight": torch.eye(2).bool()})["0.weight"].values().numel() == 2
    with pytest.raises(PruningError, match=r"no parameter '2\.weight'"):
        csr(model, {"2.weight": torch.eye(2).bool()})


def test_a_foreign_file_is_named(tmp_path):
    save_file({"a/values": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(PruningError, match=r"other.safetensors: 'a' is no CSR matrix"):
        read_csr(tmp_path / "other.safetensors")


def test_what_stays_dense_has_its_reason():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Conv2d(4, 4, 1))
    masks = prune(model, granularity="2:4", sparsity=0.5)
    masks["1.weight"] = torch.ones(8, 8, dtype=torch.bool)
    found, reasons = semi_structured(model, masks)
    assert two_of_four(masks["0.weight"])
    assert reasons["1.weight"] == "its mask is not 2:4"
    assert reasons["2.weight"] == "only linear layers have a sparse kernel"
    if not CUDA:
        assert reasons["0.weight"] == (
            "semi-structured kernels need a CUDA device; the weight is on cpu"
        )
    for name, mask in masks.items():
        assert torch.equal(found.get_parameter(name), model.get_parameter(name) * mask)


@pytest.mark.skipif(not CUDA, reason="needs a CUDA device of compute capability 8.0")
def test_semi_structured_layers_give_the_masked_products():
    model = nn.Sequential(nn.Linear(128, 128)).cuda().half()
    masks = {name: mask.cuda() for name, mask in prune(model, 0.5, granularity="2:4").items()}
    found, reasons = semi_structured(model, masks)
    assert reasons == {}
    mask_tools.apply(model, masks)
    batch = torch.randn(128, 128, device="cuda", dtype=torch.float16)
    with torch.no_grad():
        assert torch.allclose(found(batch), model(batch), atol=2e-2)
