"""Swin's shifted-window attention over fewer heads than its width would hold."""

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

Sizes: TypeAlias = tuple[int, int]


def is_window_attention(module: nn.Module) -> bool:
    """Return whether a module is torchvision's ShiftedWindowAttention (version 1)."""
    kind = type(module)
    found = kind.__name__ == "ShiftedWindowAttention" and kind.__module__.startswith("torchvision")
    return found or isinstance(module, FewerWindowHeads)


class FewerWindowHeads(nn.Module):
    """Attention within windows of (N, H, W, C), rolled by a shift, heads narrower than C.

    Has the parameters of torchvision's module by name. Made by `take_over`. Source: Liu et al.
    2021, Swin Transformer, section 3.2.
    """

    head_depth: int
    num_heads: int
    window_size: list[int]
    shift_size: list[int]
    dropout: float
    attention_dropout: float
    qkv: nn.Linear
    proj: nn.Linear
    relative_position_bias_table: Tensor
    relative_position_index: Tensor

    @classmethod
    def take_over(cls, module: nn.Module, heads: int, head_depth: int) -> None:
        """Turn torchvision's module whose weights have been cut into one of this class."""
        module.__class__ = cls
        module.num_heads, module.head_depth = heads, head_depth  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended features of (N, H, W, C)."""
        height, width = x.shape[1:3]
        tall, wide = self.window_size
        x = functional.pad(x, (0, 0, 0, -width % wide, 0, -height % tall))
        padded = (x.shape[1], x.shape[2])
        shift = (
            0 if tall >= padded[0] else self.shift_size[0],
            0 if wide >= padded[1] else self.shift_size[1],
        )
        windows = self._windows(torch.roll(x, (-shift[0], -shift[1]), dims=(1, 2)))
        attended = self._attend(windows, self._barrier(padded, shift, x))
        rows, columns = padded[0] // tall, padded[1] // wide
        whole = attended.reshape(x.shape[0], rows, columns, tall, wide, -1).transpose(2, 3)
        whole = torch.roll(whole.reshape(x.shape[0], *padded, -1), shift, dims=(1, 2))
        return whole[:, :height, :width].contiguous()

    def _windows(self, x: Tensor) -> Tensor:
        """Return (N, H, W, C) cut into windows (N * windows, positions, C)."""
        tall, wide = self.window_size
        count, height, width, depth = x.shape
        cut = x.reshape(count, height // tall, tall, width // wide, wide, depth).transpose(2, 3)
        return cut.reshape(-1, tall * wide, depth)

    def _attend(self, windows: Tensor, barrier: Tensor | None) -> Tensor:
        packed = self.qkv(windows).reshape(*windows.shape[:2], 3, self.num_heads, self.head_depth)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        scores = (query * self.head_depth**-0.5) @ key.transpose(-2, -1) + self._position_bias()
        if barrier is not None:
            apart = scores.reshape(-1, barrier.shape[0], *scores.shape[1:]) + barrier[:, None]
            scores = apart.flatten(0, 1)
        weights = functional.dropout(
            torch.softmax(scores, dim=-1), self.attention_dropout, self.training
        )
        output = self.proj((weights @ value).transpose(1, 2).flatten(-2))
        return functional.dropout(output, self.dropout, self.training)

    def _position_bias(self) -> Tensor:
        """Return the learned bias (1, heads, positions, positions)."""
        positions = self.window_size[0] * self.window_size[1]
        table = self.relative_position_bias_table[self.relative_position_index]
        return table.reshape(positions, positions, -1).permute(2, 0, 1).unsqueeze(0)

    def _barrier(self, padded: Sizes, shift: Sizes, like: Tensor) -> Tensor | None:
        """Return what keeps the parts of a rolled window apart (windows, positions, positions)."""
        if not any(shift):
            return None
        edges = [torch.arange(size, device=like.device) for size in padded]
        parts = [
            ((edge >= size - window).long() + (edge >= size - by).long()) * (by > 0)
            for edge, size, window, by in zip(edges, padded, self.window_size, shift, strict=True)
        ]
        regions = (parts[0][:, None] * 3 + parts[1]).to(like.dtype)[None, :, :, None]
        flat = self._windows(regions).squeeze(-1)
        differ = flat[:, None, :] != flat[:, :, None]
        return torch.zeros_like(differ, dtype=like.dtype).masked_fill_(differ, -100.0)
