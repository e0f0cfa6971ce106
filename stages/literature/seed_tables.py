"""What the seed project's tables hold, where the true figures are, and what is wrong with which."""

from collections.abc import Mapping
from dataclasses import dataclass

INTRODUCTION = """\
# The seed project's tables

*Written by `python -m stages.seed_page`; do not edit.*

The project this toolbox grew from (wth6618/E.ML-toolbox-Pruning, 2020) published its results as
pictures. Each of its figures stands here beside the one it cites, what the cited paper really
says (with its evidence in square brackets), and ours. Accuracy in percent on CIFAR-10, dense ->
pruned ± sd (drop in points); the seed's are single runs. Its references for soft filters, for
slimming at "20 %" and for unstructured pruning are wrong, and its L1 reference is another paper's
re-run of the one it names. Where ours are trained on CIFAR-10 as JPEG, only the drops compare.

A cell of ours fills once a protocol of `papers/` that answers the line named beside it (its
`papers.seed`) has a record; `-` means not given, or not run.
"""

REPEATED = "wrong: 93.68 ± 0.32 is the paper's dense ResNet-110, printed in all four cells"
OTHER_PAPER = (
    "cited as the original, but this is Rethinking's re-run (5 runs, last epoch); Li et al. print "
    "the best test epoch of one run"
)
SHIFTED = "wrong: Rethinking prunes 40 and 60 %; the figure cited is that of 40 %"
UNCHECKED = "we know the paper's figure from the seed's picture only"
OTHER_NET = f"wrong net: the reference is a PreResNet-110, only drops compare; {UNCHECKED}"

LI = {"arxiv": "arXiv:1608.08710", "model": "ResNet-56"}
SOFT = {"arxiv": "arXiv:1808.06866", "model": "ResNet-110"}
SLIM = {"arxiv": "arXiv:1810.05270", "model": "PreResNet-164"}
WHOLE = {"arxiv": "arXiv:1810.05270", "model": "PreResNet-110"}


@dataclass(frozen=True)
class Entry:
    """One line of the seed's tables; `truth` finds the paper's row, `told` words it."""

    name: str
    method: str
    amount: str
    how: str
    truth: Mapping[str, str]
    remark: str
    told: str = "{}"


def _truth(paper: Mapping[str, str], amount: str, **more: str) -> dict[str, str]:
    return {**paper, "sparsity_or_ratio": amount, **more}


ENTRIES = (
    Entry(
        "l1-a",
        "L1-norm filter mode A",
        "A",
        "finetuned",
        _truth(LI, "10.4", method="L1-norm filter pruning"),
        OTHER_PAPER,
    ),
    Entry(
        "l1-b",
        "L1-norm filter mode B",
        "B",
        "finetuned",
        _truth(LI, "27.6", method="L1-norm filter pruning"),
        OTHER_PAPER,
    ),
    *(
        Entry(
            f"soft-{amount}",
            "Soft filter",
            amount,
            "no finetune",
            _truth(SOFT, amount, setting="from scratch"),
            REPEATED,
        )
        for amount in ("10", "20", "30")
    ),
    Entry(
        "soft-30-finetuned",
        "Soft filter",
        "30",
        "finetuned",
        _truth(SOFT, "30", setting="pretrained"),
        REPEATED,
    ),
    Entry(
        "slimming-20",
        "Network slimming",
        "20",
        "finetuned",
        _truth(SLIM, "40"),
        f"{SHIFTED}; {UNCHECKED}",
        "none at 20 %; at 40 %: {}",
    ),
    Entry("slimming-60", "Network slimming", "60", "finetuned", _truth(SLIM, "60"), UNCHECKED),
    *(
        Entry(
            f"unstructured-{amount}",
            "Unstructured weight",
            amount,
            "finetuned",
            _truth(WHOLE, amount),
            OTHER_NET,
        )
        for amount in ("30", "80", "95")
    ),
)

LINES = (
    *(entry.name for entry in ENTRIES),
    *(f"resnet50-{entry.name}" for entry in ENTRIES),
    "resnet50-sensitivity",
)
"""The names of all lines, those of the table of ResNet-50 too."""

PLOTS = (
    ("images/iterative vs oneshot.png", "ResNet-50, linked from the seed's README"),
    ("images/iterative pruning.png", "ResNet-50, not linked (an older version?)"),
    ("images/exp_result_cifar10_resnet164.png", "PreResNet-164, pruned only"),
    ("images/exp_result_cifar10_resnet164_refined.png", "PreResNet-164, pruned and finetuned"),
)
