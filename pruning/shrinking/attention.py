"""Multi-head attention over fewer heads than the embedding would hold."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class FewerHeads(nn.MultiheadAttention):
    """nn.MultiheadAttention whose projections are narrower than its embedding.

    Same parameters by name, same arguments and results; torch's own forward insists that heads
    times depth is the embedding. Made by `take_over`.
    """

    head_depth: int

    @classmethod
    def take_over(cls, module: nn.Module, heads: int, head_depth: int) -> None:
        """Turn an nn.MultiheadAttention whose weights have been cut into one of this class."""
        assert isinstance(module, nn.MultiheadAttention)
        module.__class__ = cls
        module.num_heads, module.head_depth = heads, head_depth  # type: ignore[assignment]
        module.embed_dim = module.out_proj.weight.shape[0]
        module._qkv_same_embed_dim = False  # keeps nn.TransformerEncoderLayer off its fast path

    def _reset_parameters(self) -> None:
        self._qkv_same_embed_dim = self.in_proj_weight is not None  # as torch's own reads it
        super()._reset_parameters()
        self._qkv_same_embed_dim = False

    def _projections(self) -> list[Tensor]:
        if self.in_proj_weight is not None:
            return list(self.in_proj_weight.chunk(3))
        return [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,  # noqa: ARG002 - a hint that repeats attn_mask
    ) -> tuple[Tensor, Tensor | None]:
        """Return the attended values and, if needed, the attention weights."""
        batched = query.ndim == 3
        inputs = [query, key, value] if batched else [x.unsqueeze(1) for x in (query, key, value)]
        if not (batched and self.batch_first):
            inputs = [x.transpose(0, 1) for x in inputs]
        biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        heads = [
            functional.linear(x, weight, bias)
            .reshape(*x.shape[:-1], self.num_heads, self.head_depth)
            .transpose(1, 2)
            for x, weight, bias in zip(inputs, self._projections(), biases, strict=True)
        ]
        mask = self._mask(heads[0], key_padding_mask, attn_mask, batched)
        attended, weights = self._attend(heads, mask, need_weights)
        output = self.out_proj(attended.transpose(1, 2).flatten(-2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(dim=1)
        if not batched:
            return output.squeeze(0), weights if weights is None else weights.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _attend(
        self, heads: list[Tensor], mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        dropout = self.dropout if self.training else 0.0
        query, key, value = heads
        if not need_weights:
            found = functional.scaled_dot_product_attention(query, key, value, mask, dropout)
            return found, None
        scores = query @ key.transpose(-2, -1) / self.head_depth**0.5
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        weights = functional.dropout(weights, dropout)
        return weights @ value, weights

    def _mask(
        self, query: Tensor, padding: Tensor | None, mask: Tensor | None, batched: bool
    ) -> Tensor | None:
        """Return both masks as one to be added to the scores (N, heads, L, S), or None."""
        total: Tensor | None = None
        if mask is not None:
            total = _additive(mask, query)
            if mask.ndim == 3:
                total = total.reshape(query.shape[0], -1, *mask.shape[1:])
        if padding is not None:
            keys = _additive(padding if batched else padding.unsqueeze(0), query)[:, None, None]
            total = keys if total is None else total + keys
        return total


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -torch.inf)
