"""What a record says of the papers' words and orders: claims, ranks, iterative or one-shot."""

import math
from typing import TYPE_CHECKING

from stages.params.protocol import Protocol
from stages.records import claims, ranking
from stages.records.recorded import Record
from stages.records.results_words import percent, signed, table

if TYPE_CHECKING:
    import pandas as pd

    from stages.params import Method


def in_words(stated: list[claims.Claim], record: Record) -> list[str]:
    """Return the part that checks the paper's claims one by one, if it makes any."""
    if not stated:
        return []
    lines = []
    for claim in stated:
        findings = claims.evaluate(claim, record.results)  # type: ignore[arg-type]
        lines.append(
            {
                "published": f"{claim.text} [{claim.source}]",
                "tested": _tested(claim),
                "ours": "; ".join(_finding(claim, each) for each in _telling(findings)),
                "verdict": f"**{claims.conclusion(findings)}**",
            }
        )
    return ["### What the paper says in words", table(lines)]


def _tested(claim: claims.Claim) -> str:
    amount = {"above": " points", "slower": " times"}.get(claim.claim, "")
    by = f" by {claim.amount:g}{amount}" if claim.amount else ""
    ends = claim.sparsity if isinstance(claim.sparsity, list) else [claim.sparsity]
    words = {"level": "level with", "above": "above", "slower": "slower than"}[claim.claim]
    return f"{claim.experiment} {words} {claim.than}{by} at {' to '.join(percent(s) for s in ends)}"


def _telling(findings: list[claims.Finding]) -> list[claims.Finding]:
    """Return the finding that decides: the smallest difference of the weakest verdict."""
    weakest = [each for each in findings if each.verdict == claims.conclusion(findings)]
    return sorted(weakest, key=lambda each: each.difference.mean)[:1]


def _finding(claim: claims.Claim, finding: claims.Finding) -> str:
    found = finding.difference
    at = f"at {percent(finding.sparsity)} (n = {found.n})"
    if claim.claim == "slower":
        mean, low, high = (math.exp(value) for value in (found.mean, found.low, found.high))
        return f"{mean:.2f} times as many steps [{low:.2f}, {high:.2f}] {at}"
    return f"{signed(found)} {at}"


def ranks(papers: Protocol, record: Record, rows: "pd.DataFrame") -> list[str]:
    """Return the part that sets ranks and drops beside published tables, if any is named."""
    parts = []
    for each in papers.rankings:
        found = ranking.orders(each, record.results, rows)  # type: ignore[arg-type]
        if found:
            parts += [f"#### {each.model}, {each.arxiv}", _standings(found), _agreement(found)]
    told = "Rank by accuracy, in brackets the drop in points (the accuracy where none is printed)."
    return ["### Ranks and drops beside published tables", told, *parts] if parts else []


def _standings(found: list[ranking.Order]) -> str:
    names = dict.fromkeys(name for order in found for name in order.standings)
    lines = []
    for name in names:
        line = {"experiment": name}
        for order in found:
            cell = order.standings.get(name)
            line[f"theirs {percent(order.sparsity)}"] = _theirs(cell) if cell else "-"
            line[f"ours {percent(order.sparsity)}"] = (
                f"{cell.our_rank} ({cell.our_drop:+.2f})" if cell else "-"
            )
        lines.append(line)
    return table(lines)


def _theirs(cell: ranking.Standing) -> str:
    if math.isnan(cell.their_drop):
        return f"{cell.their_rank} ({cell.their_accuracy:.2f} %)"
    return f"{cell.their_rank} ({cell.their_drop:+.2f})"


def _agreement(found: list[ranking.Order]) -> str:
    lines = []
    for order in found:
        same = f"{order.agreeing} of {order.pairs} pairs in the same order"
        line = f"* {percent(order.sparsity)}: {same}"
        if order.against:
            told = ", ".join(f"{better} above {worse}" for better, worse in order.against)
            line += f"; surely the other way round in ours: {told}"
        lines.append(line + ".")
    return "\n".join(lines)


def iterative(record: Record) -> list[str]:
    """Return the part on pairs of experiments that differ in the chain of rounds alone, if any."""
    params = record.params
    alike = [
        (ours, theirs)
        for ours in params.iterative
        for theirs in params.one_shot
        if _recipe(params.methods[ours]) == _recipe(params.methods[theirs])
    ]
    if not alike:
        return []
    parts = ["### Iterative against one-shot"]
    for ours, theirs in alike:
        findings = claims.since(record.results, ours, theirs)  # type: ignore[arg-type]
        parts += [_from_where(ours, theirs, findings), _differences(ours, theirs, findings)]
    return parts


def _recipe(method: "Method") -> "Method":
    return method.model_copy(update={"control_of": None})


def _from_where(ours: str, theirs: str, findings: list[claims.Finding]) -> str:
    sure = [each for each in findings if each.difference.low > 0]
    tail: list[claims.Finding] = []
    for each in reversed(findings):
        if not each.difference.low > 0:
            break
        tail.insert(0, each)
    if not sure:
        return f"At no sparsity is {ours} surely above {theirs} (same mask rule, same recovery)."
    best = max(sure, key=lambda each: each.difference.mean)
    since = f"from {percent(tail[0].sparsity)} on" if tail else "though not at the last sparsity"
    return (
        f"With the same mask rule and the same recovery {ours} is surely above {theirs} {since}, "
        f"most at {percent(best.sparsity)}: {signed(best.difference)}."
    )


def _differences(ours: str, theirs: str, findings: list[claims.Finding]) -> str:
    lines = [
        {
            "sparsity": percent(each.sparsity),
            f"{ours} minus {theirs}, points": signed(each.difference),
            "n": str(each.difference.n),
        }
        for each in findings
    ]
    return table(lines)
