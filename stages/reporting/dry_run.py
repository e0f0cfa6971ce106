"""What a round would prune, layer by layer, before anything is written."""

import warnings
from collections.abc import Callable

from pruning.coupling.groups import channels
from pruning.errors import PruningError
from pruning.network import Network, load
from pruning.plan import Planned, losses
from pruning.prunables import prunable
from pruning.pruner import LayerCollapse
from pruning.types import Masks
from stages.files import fold_of
from stages.fold import masking, samples
from stages.params import Params, Prune
from stages.prune import source


def report(study: Params, experiment: str, n: int, fold: int) -> list[str]:
    """Return the lines of a dry run of one fold: matched tensors, their loss, couplings, deaths."""
    sample = samples.of_fold(study, fold)
    network = load(fold_of(source(study, experiment, n), fold), foreign=True)
    choices = study.method(experiment).prune
    start = masking.Beginning(study, experiment, n, fold, sample, network.model, network.masks)
    goal = masking.goal_of_round(start)
    choose = masking.chooser(study, experiment, fold, sample, on_collapse="warn")
    rows = _rows(network, choose, goal, choices)
    width = max(len(row.layer) for row in rows)
    aim = "no target but its allocation's own" if goal is None else f"target sparsity {goal:g}"
    lines = [f"{experiment}, round {n}, fold {fold}: {aim}, nothing is written"]
    lines += [_line(row, width, choices.granularity) for row in rows]
    matched = {row.layer for row in rows}
    others = [name for name, _ in network.model.named_parameters() if name not in matched]
    lines.append(f"not up for pruning: {', '.join(others) or 'nothing'}")
    dead = [row.layer for row in rows if row.dies]
    lines.append(f"would die: {', '.join(dead) or 'no layer'}")
    if choices.granularity in ("filter", "channel"):
        lines += _couplings(network)
    return lines


def _rows(
    network: Network, choose: Callable[..., Masks], goal: float | None, choices: Prune
) -> list[Planned]:
    """Return what each layer that is up for pruning would lose."""
    previous = dict(network.masks) or None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayerCollapse)
        masks = choose(network.model, goal, previous=previous)
    params = prunable(network.model, only=choices.only, skip=choices.skip)
    return losses(network.model, {name: masks[name] for name in params}, choices.granularity)


def _line(row: Planned, width: int, granularity: str) -> str:
    pieces = (
        "" if granularity == "weight" else f", {row.pieces_kept} of {row.pieces} {granularity}s"
    )
    return (
        f"  {row.layer:{width}}  {'x'.join(map(str, row.shape)):>14}  keeps {row.kept} of "
        f"{row.weights} weights{pieces}, sparsity {row.sparsity:.4f}"
    )


def _couplings(network: Network) -> list[str]:
    """Say which layers' filters go together, and what pins others."""
    import torch

    try:
        groups = channels(network.model, (torch.zeros(2, *network.input_shape),))
    except PruningError as error:
        return [f"couplings unknown: {error}"]
    lines = ["coupled (go together or stay together):"]
    trained = {name for name, _ in network.model.named_parameters()}
    seen: dict[tuple[str, ...], int] = {}
    for group in groups:
        members = {f"{each.name}[{each.dim}]" for each in group.members if each.name in trained}
        names = tuple(sorted(members))
        seen[names] = seen.get(names, 0) + 1
    lines += [f"  {count} channels: {', '.join(names)}" for names, count in seen.items()]
    return lines + [
        f"pinned: {held.channels} of {held.of} of {held.parameter}, by {held.reason}"
        for held in groups.pinned
    ]
