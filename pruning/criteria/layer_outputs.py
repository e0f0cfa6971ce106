"""Criteria that look at what a layer's own outputs lose."""

from torch import nn

from pruning.evidence import Evidence
from pruning.layer_hessians import layer_hessians
from pruning.types import Params, Scores


def l_obs(
    model: nn.Module,
    params: Params,
    evidence: Evidence,
    *,
    damping: float = 1e-5,
    batches: int | None = None,
) -> Scores:
    """Rise of a layer's output error if the rest makes up for a weight, w^2 / (2 [H^-1]_qq).

    Source: Dong et al. 2017, "Learning to Prune Deep Neural Networks via Layer-wise Optimal Brain
    Surgeon", equation 5.

    H is the second moment of the layer's inputs over `batches` (None: all), of a convolution's over
    its patches; a bias counts as the weight of a constant input, as in the authors' code. `damping`
    times the mean of H's diagonal is added to the diagonal, where that code begins its recursion
    for the inverse at 10^6 times the identity, which is the same as adding 10^-6. Scores of
    different layers are errors of different outputs: the paper gives each layer a budget of its own
    (`per_layer`, `interpolated`). With `compensation: l_obs` the rest makes up in fact. For Linear
    and Conv layers.
    """
    origin = ("criterion", "l_obs")
    found = layer_hessians(model, params, evidence, origin=origin, damping=damping, limit=batches)
    scores: Scores = {}
    for layer in found:
        inverse = layer.inverse().diagonal(dim1=-2, dim2=-1).unsqueeze(1)
        errors = layer.rows(layer.parameters).square() / (2 * inverse)
        scores |= {name: each for name, each in layer.split(errors).items() if name in params}
    return scores
