"""Which rule follows which operation of torch; all others pin the channels that enter them."""

from typing import Any

from pruning.coupling.rules import (
    attention,
    cutting,
    moving,
    norms,
    products,
    recurrent,
    reductions,
)
from pruning.coupling.rules.moving import Rule

_BY_RULE: dict[Rule, str] = {
    moving.same: "alias clone contiguous detach detach_ lift_fresh_copy to _to_copy type_as dropout"
    " dropout_ alpha_dropout feature_dropout feature_alpha_dropout requires_grad_ positive",
    moving.reshaped: "view reshape _unsafe_view flatten unflatten view_as reshape_as",
    moving.permuted: "permute transpose t numpy_T mT movedim swapaxes swapdims",
    moving.unsqueezed: "unsqueeze",
    moving.squeezed: "squeeze",
    moving.expanded: "expand expand_as broadcast_to",
    moving.selected: "select",
    moving.unbound: "unbind",
    cutting.sliced: "slice narrow",
    cutting.split: "split chunk split_with_sizes tensor_split unsafe_split unsafe_chunk",
    cutting.concatenated: "cat concat concatenate",
    cutting.stacked: "stack",
    cutting.padded: "pad constant_pad_nd",
    moving.rolled: "roll",
    moving.repeated: "repeat tile",
    moving.pixels_shuffled: "pixel_shuffle",
    moving.pixels_unshuffled: "pixel_unshuffle",
    moving.channels_shuffled: "channel_shuffle native_channel_shuffle",
    moving.indexed: "index",
    products.linear: "linear",
    products.addmm: "addmm",
    products.convolution: "conv1d conv2d conv3d",
    products.transposed_convolution: "conv_transpose1d conv_transpose2d conv_transpose3d",
    products.embedding: "embedding",
    products.matmul: "matmul mm bmm",
    products.batched: "baddbmm",
    products.einsum: "einsum",
    norms.batch_norm: "batch_norm",
    norms.group_norm: "group_norm",
    norms.instance_norm: "instance_norm",
    norms.layer_norm: "layer_norm rms_norm",
    norms.prelu: "prelu",
    reductions.spatial: "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d"
    " adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d"
    " adaptive_max_pool2d adaptive_max_pool3d max_pool2d_with_indices upsample_nearest1d"
    " upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d"
    " upsample_trilinear3d upsample_bicubic2d _upsample_nearest_exact2d reflection_pad1d"
    " reflection_pad2d replication_pad1d replication_pad2d",
    reductions.reduced: "mean sum amax amin max min any",
    reductions.moment: "prod logsumexp var std var_mean std_mean norm linalg_vector_norm",
    reductions.normalised: "softmax log_softmax",
    reductions.accumulated: "cumsum flip",
    reductions.made: "zeros zeros_like new_zeros ones ones_like new_ones full full_like new_full"
    " arange linspace empty empty_like new_empty rand randn rand_like randn_like eye scalar_tensor",
    reductions.gated: "glu",
    reductions.pointwise: "hardswish hardswish_ log_sigmoid threshold threshold_ softmin",
    attention.scaled_dot_product: "scaled_dot_product_attention",
    recurrent.recurrent: "lstm gru rnn_tanh rnn_relu",
}

RULES: dict[str, Rule] = {name: rule for rule, names in _BY_RULE.items() for name in names.split()}


def rule_of(operation: str, target: Any) -> Rule | None:
    """Return the rule of an operation, or None where it is not understood."""
    if operation in RULES:
        return RULES[operation]
    return reductions.pointwise if reductions.has_pointwise_tag(target) else None
