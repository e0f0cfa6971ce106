"""What the kept weights do when others go: every public function here is a compensation.

Each takes the network as it was before pruning, the masks and the evidence, and returns new values,
by name, of the parameters that change:

    model.load_state_dict(l_obs(model, masks, evidence), strict=False)
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from pruning.evidence import Evidence
from pruning.layer_hessians import ROOM, cholesky, layer_hessians
from pruning.masks import by_first_name


def none(model: nn.Module, masks: Mapping[str, Tensor], evidence: Evidence) -> dict[str, Tensor]:
    """Leave the kept weights as they are.

    Source: Han et al. 2015, "Learning both Weights and Connections", section 3 (recovery is left to
    retraining).
    """
    return {}


@torch.no_grad()
def l_obs(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    evidence: Evidence,
    *,
    damping: float = 1e-5,
    batches: int | None = None,
) -> dict[str, Tensor]:
    """Kept weights and biases that keep each layer's outputs as near as can be to what they were.

    Source: Dong et al. 2017, "Learning to Prune Deep Neural Networks via Layer-wise Optimal Brain
    Surgeon", equation 5 and algorithm 1.

    For each output, the w that minimises (w - w0)' H (w - w0) with masked weights at zero, which is
    w0_K + H_KK^-1 H_KP w0_P for the kept K and the pruned P: the joint optimum of any masks, those
    of another criterion too. The paper takes one weight after the other, in order of sensitivity,
    and adds up the corrections -w_q / [H^-1]_qq H^-1 e_q. By the authors' code H^-1 is that of all
    weights throughout, and what it does to weights that are already gone is dropped: the optimum
    for a single weight, not for many. As there, H is that of the trained network in every layer, so
    that no layer makes up for what is lost before it. H, its `damping` and `batches` are those of
    the criterion `l_obs`; a bias is corrected and, unless it is masked, kept. An output that loses
    nothing stays bit for bit. For Linear and Conv layers.
    """
    known = by_first_name(model, masks)
    parameters = dict(model.named_parameters())
    pruned = {name: parameters[name] for name, mask in known.items() if not bool(mask.all())}
    found: dict[str, Tensor] = {}
    if not pruned:
        return found
    origin = ("compensation", "l_obs")
    for layer in layer_hessians(
        model, pruned, evidence, origin=origin, damping=damping, limit=batches
    ):
        everything = {n: torch.ones_like(p, dtype=torch.bool) for n, p in layer.parameters.items()}
        kept = layer.rows({**everything, **{n: known[n] for n in everything if n in known}})
        rows = layer.rows(layer.parameters).to(torch.float64)
        groups = zip(layer.matrix, rows, kept, strict=True)
        best = torch.stack([_optimum(*group, layer.where) for group in groups])
        for name, value in layer.split(best).items():
            found[name] = value.to(layer.parameters[name].dtype)
    return found


def _optimum(hessian: Tensor, rows: Tensor, kept: Tensor, where: str) -> Tensor:
    """Return the rows nearest to `rows` under `hessian` that are zero where they are not `kept`."""
    lost = rows.masked_fill(kept, 0)
    pull = lost @ hessian
    result = rows.masked_fill(~kept, 0)
    counts = kept.sum(1)
    open_ = (lost.ne(0).any(1) & (counts > 0)).nonzero()[:, 0]
    for some, width in _shares(open_, counts):
        # The kept places come first, those that fill up a shorter row after them.
        places = kept[some].to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
        real = kept[some].gather(1, places)
        system = hessian[places[:, :, None], places[:, None, :]]
        filler = torch.eye(width, dtype=system.dtype, device=system.device)
        system = torch.where(real[:, :, None] & real[:, None, :], system, filler)
        wanted = pull[some].gather(1, places).masked_fill(~real, 0)
        step = torch.cholesky_solve(wanted.unsqueeze(2), cholesky(system, where)).squeeze(2)
        result[some] = result[some].scatter_add(1, places, step)
    return result


def _shares(rows: Tensor, counts: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Yield some of `rows` at a time, of much the same count, with the largest of their counts."""
    order = rows[counts[rows].argsort(dim=0, descending=True, stable=True)]
    widths = counts[order].tolist()
    start = 0
    while start < len(widths):
        width = widths[start]
        end = start + max(ROOM // width**2, 1)
        yield order[start:end], width
        start = end
