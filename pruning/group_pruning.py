"""Prune whole groups: filters with all that lives or dies with them, by the group's score."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.choices import Choice
from pruning.coupling.choosing import group_masks
from pruning.coupling.flow import kept_masks
from pruning.coupling.groups import Groups
from pruning.coupling.removal import removable
from pruning.coupling.scoring import piece_dim
from pruning.errors import unknown
from pruning.evidence import Evidence
from pruning.granularity import alive
from pruning.prunables import prunable
from pruning.pruner import score
from pruning.types import Masks

GRANULARITIES = ("filter", "channel")


def prune_groups(
    model: nn.Module,
    sparsity: float,
    groups: Groups,
    *,
    criterion: Choice = "magnitude",
    granularity: str = "filter",
    reduce: str = "sum",
    coupled: str = "mean",
    scope: str = "layerwise",
    min_keep: int = 1,
    round_to: int = 1,
    evidence: Evidence | None = None,
    previous: Masks | None = None,
    allow_regrowth: bool = False,
    only: Iterable[str] | None = None,
    skip: Iterable[str] = (),
) -> Masks:
    """Return masks that take the fraction `sparsity` of all groups whole; the model stays as it is.

    `groups` are those that `channels` finds in the model. A group's score is the sum, mean or max
    (`coupled`) of its members' scores by `criterion`; `scope`, `min_keep` and `round_to` are those
    of `group_masks`. The masks take biases and norms of what goes as well, so that `shrink` can
    remove it; they hold every layer that was up for pruning. Without `allow_regrowth` what
    `previous` pruned goes first and does not come back. Raises `PruningError` for unknown choices.

    Source: Fang et al. 2023, "DepGraph: Towards Any Structural Pruning", section 3.3 (one score for
    all that depends on one another); here the members are found by channel ids, not by layer pairs.
    """
    if granularity not in GRANULARITIES:
        raise unknown("granularity of groups", granularity, GRANULARITIES)
    params = prunable(model, only=only if only is None else tuple(only), skip=tuple(skip))
    scores = score(
        model,
        criterion,
        evidence=evidence,
        granularity=granularity,
        reduce=reduce,
        only=params,
    )
    before = {} if allow_regrowth or previous is None else previous
    before = mask_tools.by_first_name(model, before, where="previous masks")
    found = group_masks(
        _dead_last(scores, before, groups),
        groups,
        sparsity,
        how=coupled,
        scope=scope,
        min_keep=min_keep,
        round_to=round_to,
    )
    return joined({**mask_tools.dense(params), **found}, before)


def joined(masks: Mapping[str, Tensor], previous: Mapping[str, Tensor]) -> Masks:
    """Return masks that take what either of two takes, in the order of the first."""
    both = {
        name: m & previous[name].to(m.device) if name in previous else m
        for name, m in masks.items()
    }
    return both | {name: mask for name, mask in previous.items() if name not in masks}


def _dead_last(scores: Mapping[str, Tensor], before: Masks, groups: Groups) -> Mapping[str, Tensor]:
    """Return scores in which what is pruned already is worth less than anything else.

    A piece without a kept weight is, and one whose group is gone: an input channel still has
    weights when the filter that fed it has none.
    """
    if not before:
        return scores
    living = alive(before, scores)
    gone = removable(groups, before, kept_masks(groups.trace.shapes, before))
    found = {}
    for name, each in scores.items():
        dim = piece_dim(name, each)
        along = torch.from_numpy(gone[groups.labels(name, dim)])
        dead = along.reshape([-1 if d == dim else 1 for d in range(each.ndim)])
        dead = dead | ~living[name].cpu() if name in living else dead
        found[name] = each.masked_fill(dead.to(each.device), -torch.inf)
    return found
