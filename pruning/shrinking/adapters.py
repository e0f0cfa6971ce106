"""Modules whose own forward cannot run on fewer channels, and what stands in for them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pruning.shrinking.attention import FewerHeads
from pruning.shrinking.windows import FewerWindowHeads, is_window_attention

Kept = Mapping[str, Mapping[str, Sequence[int]]]


def adapted(model: nn.Module, kept: Kept) -> dict[str, dict[str, Any]]:
    """Return the heads that each attention module is left with, where it lost any channel."""
    found: dict[str, dict[str, Any]] = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(module, nn.MultiheadAttention):
            rows = _rows(kept, prefix, ("in_proj_weight", "q_proj_weight"), module.embed_dim)
            touched = any(name.startswith(prefix) for name in kept)
            depth = module.head_dim
        elif is_window_attention(module):
            weight = module.qkv.weight
            rows = _rows(kept, prefix, ("qkv.weight",), weight.shape[0] // 3)
            touched = rows < weight.shape[0] // 3
            depth = weight.shape[0] // 3 // int(module.num_heads)
        else:
            continue
        if touched:
            found[path] = {"heads": {"count": rows // depth, "depth": depth}}
    return found


def _rows(kept: Kept, prefix: str, names: Sequence[str], dense: int) -> int:
    """Return how many query rows are kept, of a packed or a single projection."""
    for name in names:
        if "0" in kept.get(prefix + name, {}):
            share = 1 if name == "q_proj_weight" else 3
            return len(kept[prefix + name]["0"]) // share
    return dense


class Selected:
    """Reads some channels of its input: a buffer `selected`, not in the state_dict, lists them."""

    selected: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the selected channels of an input (N, C, ...)."""
        chosen = input.index_select(1, self.selected)
        return super().forward(chosen)  # type: ignore[misc,no-any-return]


class SelectedBatchNorm1d(Selected, nn.BatchNorm1d):
    """A batch norm of (N, C) or (N, C, L) that reads some of its input's channels."""


class SelectedBatchNorm2d(Selected, nn.BatchNorm2d):
    """A batch norm of (N, C, H, W) that reads some of its input's channels."""


class SelectedBatchNorm3d(Selected, nn.BatchNorm3d):
    """A batch norm of (N, C, D, H, W) that reads some of its input's channels."""


SELECTED = {
    nn.BatchNorm1d: SelectedBatchNorm1d,
    nn.BatchNorm2d: SelectedBatchNorm2d,
    nn.BatchNorm3d: SelectedBatchNorm3d,
}


def adapt(module: nn.Module, settings: Mapping[str, Any]) -> None:
    """Change a module of the shrunk network as the plan says, in place."""
    for name, value in settings.items():
        if name == "select":
            _select(module, value)
        elif name == "heads":
            stand_in = FewerHeads if isinstance(module, nn.MultiheadAttention) else FewerWindowHeads
            stand_in.take_over(module, value["count"], value["depth"])
        elif name == "numbers":
            for attribute, number in value.items():
                setattr(module, attribute, number)


def _select(module: nn.Module, positions: Sequence[int]) -> None:
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    module.__class__ = next(new for old, new in SELECTED.items() if type(module) is old)
    chosen = torch.tensor(positions, dtype=torch.int64, device=device)
    module.register_buffer("selected", chosen, persistent=False)


def resize(module: nn.Module) -> None:
    """Set the attributes that name sizes to those of the module's tensors."""
    if isinstance(module, nn.modules.conv._ConvNd):
        transposed = module.transposed
        module.out_channels = module.weight.shape[transposed] * (module.groups if transposed else 1)
        module.in_channels = module.weight.shape[not transposed] * (
            1 if transposed else module.groups
        )
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = module.weight.shape[1]
    elif isinstance(module, nn.RNNBase):
        _resize_recurrent(module)
    elif isinstance(module, nn.RNNCellBase):
        module.input_size = module.weight_ih.shape[1]
        module.hidden_size = module.weight_hh.shape[1]
    else:
        _resize_norm(module)


def _resize_norm(module: nn.Module) -> None:
    vectors = (getattr(module, name, None) for name in ("weight", "running_mean"))
    sizes = [len(each) for each in vectors if isinstance(each, Tensor) and each.ndim == 1]
    for name in ("num_features", "num_channels", "num_parameters"):
        if sizes and hasattr(module, name):
            setattr(module, name, sizes[0])


def _resize_recurrent(module: nn.RNNBase) -> None:
    gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
    rows, module.input_size = module.get_parameter("weight_ih_l0").shape
    module.hidden_size = rows // gates
    if module.proj_size:
        module.proj_size = module.get_parameter("weight_hr_l0").shape[0]
