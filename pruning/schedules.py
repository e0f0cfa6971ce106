"""When is it pruned: every public function here maps progress in [0, 1] to a sparsity."""


def one_shot(progress: float, final: float, *, initial: float = 0.0) -> float:
    """Everything at once, as soon as there is any progress.

    Source: the plain reading of "prune, then retrain" (Han et al. 2015, figure 2).

    >>> one_shot(0.0, 0.9), one_shot(0.1, 0.9), one_shot(1.0, 0.9)
    (0.0, 0.9, 0.9)
    """
    return final if progress > 0 else initial


def linear(progress: float, final: float, *, initial: float = 0.0) -> float:
    """The same share of all weights in each unit of time.

    Source: Zhu & Gupta 2017, the control of their section 3.

    >>> [round(linear(p, 0.8), 4) for p in (0, 0.25, 0.5, 1)]
    [0.0, 0.2, 0.4, 0.8]
    """
    return initial + (final - initial) * min(max(progress, 0.0), 1.0)


def polynomial(progress: float, final: float, *, initial: float = 0.0, power: float = 3.0) -> float:
    """Fast while much is redundant, slow at the end: with power 3 the cubic ramp of AGP.

    Source: Zhu & Gupta 2017, equation 1: s = s_f + (s_i - s_f) (1 - progress)^3.

    >>> [round(polynomial(p, 0.8), 4) for p in (0, 0.25, 0.5, 1)]
    [0.0, 0.4625, 0.7, 0.8]
    """
    return final + (initial - final) * float((1 - min(max(progress, 0.0), 1.0)) ** power)


def geometric(progress: float, final: float, *, initial: float = 0.0) -> float:
    """The same share of the remaining weights in each unit of time.

    Source: Frankle & Carbin 2019, section 2 (p^(1/n) a round); SynFlow's exponential schedule.

    >>> [round(geometric(p, 0.9375), 4) for p in (0, 0.25, 0.5, 1)]
    [0.0, 0.5, 0.75, 0.9375]
    """
    share = min(max(progress, 0.0), 1.0)
    return 1 - float((1 - initial) ** (1 - share) * (1 - final) ** share)
