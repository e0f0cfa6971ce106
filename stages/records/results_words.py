"""How the results page writes numbers and tables."""

from stages.literature.verdict import Sample


def percent(share: float, digits: int = 4) -> str:
    """Return a share in percent, with as many digits as it takes up to `digits`.

    >>> percent(0.95), percent(0.9856)
    ('95 %', '98.56 %')
    """
    return f"{100 * share:.{digits}g} %"


def signed(found: Sample) -> str:
    """Return a difference in points with its interval."""
    if found.n < 2:
        return f"{found.mean:+.2f}"
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def mean_sd(found: Sample) -> str:
    """Return mean ± sample sd, in the values' unit."""
    return f"{found.mean:.2f}" + ("" if found.n < 2 else f" ± {found.sd:.2f}")


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(42), duration(3723)
    ('42 s', '1 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def table(lines: list[dict[str, str]]) -> str:
    """Return lines as a Markdown table."""
    import pandas as pd

    shown = pd.DataFrame(lines).fillna("-")
    return str(shown.to_markdown(index=False, disable_numparse=True))
