"""Weights on disk without their zeros: back to the same bits, in the bytes that they take."""

import pytest
import torch
from torch import nn

from pruning import PruningError, prune
from pruning import masks as mask_tools
from pruning.compressed import read_compressed, write_compressed
from pruning.tensors import write_tensors


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 50, 3), nn.BatchNorm2d(50), nn.ReLU(), nn.Flatten())
    masks = prune(model, 0.9)
    mask_tools.apply(model, masks)
    return model, masks


def test_back_to_the_same_bits_in_a_tenth_and_a_bit_a_weight(tmp_path):
    model, masks = network()
    path, plain = tmp_path / "compressed.safetensors", tmp_path / "plain.safetensors"
    write_compressed(path, model.state_dict(), masks)
    found = read_compressed(path)
    assert found.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    write_tensors(plain, model.state_dict())
    # of 1350 weights 135 stay, four bytes each; 1350 bits are 169 bytes; a shape is 4 x 8 bytes
    held = sum(tensor.nbytes for tensor in model.state_dict().values()) - 1350 * 4
    assert path.stat().st_size < held + 135 * 4 + 169 + 32 + 1024
    assert path.stat().st_size < plain.stat().st_size / 2


def test_a_mask_without_a_tensor_and_a_foreign_file_are_named(tmp_path):
    model, masks = network()
    path = tmp_path / "compressed.safetensors"
    with pytest.raises(PruningError, match=r"no tensor 'other' for the mask"):
        write_compressed(path, model.state_dict(), {"other": masks["0.weight"]})
    write_tensors(path, {"a": torch.ones(3), "a/mask": torch.ones(1, dtype=torch.uint8)})
    with pytest.raises(PruningError, match=r"compressed.safetensors: 'a' is no compressed tensor"):
        read_compressed(path)
