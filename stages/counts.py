"""Count what pruning leaves where papers print it, without any training: parameters and MACs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.command import application, one_line_errors

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

COUNTS = Path("papers/counts.csv")
COLUMNS = ("method", "model", "paper", "quantity", "published", "ours", "dense", "left", "agrees")
"""One line a printed count: ours and dense are counts, left is ours in percent of dense."""

LI = {
    ("ResNet-56", "pruned-A"): ("li-2017-resnet56-a", {"factory": "resnet56"}),
    ("ResNet-56", "pruned-B"): ("li-2017-resnet56-b", {"factory": "resnet56"}),
    ("ResNet-110", "pruned-A"): ("li-2017-resnet110-a", {"factory": "resnet110"}),
    ("ResNet-110", "pruned-B"): ("li-2017-resnet110-b", {"factory": "resnet110"}),
    ("VGG-16", "pruned-A"): ("li-2017-vgg16-a", {"factory": "vgg16_bn", "hidden": 512}),
}
"""By net and mode of Li et al. 2017, table 1: the preset and the network it is for."""

POINTS = 0.1
"""A share agrees to so many points: they are printed to one decimal."""
RELATIVE = 0.01
"""A count agrees to this share of it: they are printed to two or three digits."""

Out = Annotated[Path, typer.Option(help="The table to write.")]


def counts(out: Out = COUNTS) -> None:
    """Write our counts beside the published ones, for `stages.results` to show."""
    with one_line_errors():
        import pandas as pd

        from stages.literature.published import load

        rows = load()
        table = pd.DataFrame([*filters(rows), *weights(rows)], columns=list(COLUMNS))
        out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(out, index=False, lineterminator="\n")
        print(f"wrote {out}: {int(table['agrees'].sum())} of {len(table)} counts agree")


def filters(rows: "pd.DataFrame", only: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield parameters and MACs of Li's networks once shrunk; `only` one preset's."""
    own = rows[(rows["arxiv"] == "arXiv:1608.08710") & (rows["dataset"] == "CIFAR-10")]
    for (model, mode), (preset, factory) in LI.items():
        if only in (None, preset):
            row = own[(own["model"] == model) & own["method"].str.endswith(f", {mode}")].iloc[0]
            dense, left = shrunk(preset, factory)
            for quantity, column in (("parameters", "params"), ("MACs", "flops")):
                share = 100 * left[quantity] / dense[quantity]
                printed = float(row[f"{column}_remaining"])
                yield {
                    **_facts(row, quantity),
                    "published": f"{printed:g} %",
                    "ours": left[quantity],
                    "dense": dense[quantity],
                    "left": round(share, 3),
                    "agrees": abs(share - printed) <= POINTS,
                }


def shrunk(preset: str, factory: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Return parameters and MACs of the dense network and of the one shrunk by a preset's masks."""
    import torch

    from pruning import prune
    from pruning.coupling.groups import channels
    from pruning.coupling.scoring import whole
    from pruning.models import build
    from pruning.presets import PRESETS
    from pruning.shrinking.shrink_network import shrink

    torch.manual_seed(0)
    model, image = build(factory), torch.zeros(1, 3, 32, 32)
    groups = channels(model, image)
    masks = whole(prune(model, **PRESETS[preset]), groups)
    return _size(model, image), _size(shrink(model, masks, image, groups=groups), image)


def weights(rows: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    """Yield the weights that a global mask leaves of SNIP's networks at the printed sparsity."""
    from pruning import prune
    from stages.records.counts_nets import SNIP

    own = rows[(rows["arxiv"] == "arXiv:1810.02340") & (rows["method"] == "SNIP")]
    for row in own[own["model"].isin(list(SNIP))].to_dict("records"):
        # a global budget leaves as many weights whatever ranks them
        masks = prune(SNIP[row["model"]](), row["sparsity"], criterion="random")
        kept = sum(int(mask.sum()) for mask in masks.values())
        dense, printed = sum(mask.numel() for mask in masks.values()), _printed(row)
        yield {
            **_facts(row, "weights"),
            "published": " -> ".join(printed) if printed else f"{row['params_remaining']:g} %",
            "ours": kept,
            "dense": dense,
            "left": round(100 * kept / dense, 3),
            "agrees": _near(dense, kept, printed, row),
        }


def _near(dense: int, kept: int, printed: tuple[str, str] | None, row: Any) -> bool:
    """Tell whether both counts agree, or the share alone where no count is printed."""
    if printed is None:
        return abs(100 * kept / dense - float(row["params_remaining"])) <= POINTS
    told = [_number(text) for text in printed]
    return all(abs(a / b - 1) <= RELATIVE for a, b in zip((dense, kept), told, strict=True))


def _printed(row: Any) -> tuple[str, str] | None:
    found = re.search(r"([\d.]+[Mk])->([\d.]+[Mk])", str(row["note"]))
    return (found[1], found[2]) if found else None


def _number(text: str) -> float:
    """Return a count as printed.

    >>> _number("15.2M"), _number("762k")
    (15200000.0, 762000.0)
    """
    return float(text[:-1]) * {"M": 1e6, "k": 1e3}[text[-1]]


def _facts(row: Any, quantity: str) -> dict[str, Any]:
    paper = f"{row['paper'].split(',')[0]} {row['year']}"
    return {"method": row["method"], "model": row["model"], "paper": paper, "quantity": quantity}


def _size(model: "nn.Module", image: Any) -> dict[str, int]:
    from pruning.macs import macs

    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "MACs": macs(model, image),
    }


app = application(counts)

if __name__ == "__main__":
    app()
