import pandas as pd
import pytest

from stages.reporting import sanity
from stages.sensitivity import propose


def results(**accuracies):
    """Return a results table from {experiment: {round: [accuracy by fold]}}."""
    rows = [
        {"experiment": name, "round": n, "fold": fold, "sparsity": n / 4, "test_accuracy": value}
        for name, rounds in accuracies.items()
        for n, values in rounds.items()
        for fold, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


class Study:
    """The parts of the params that the sanity checks read."""

    experiments = ("method", "shuffled")
    rounds = (type("R", (), {"n": 1})(), type("R", (), {"n": 2})())

    @staticmethod
    def lender(name):  # noqa: ARG004
        return None

    @staticmethod
    def method(name):
        return type("M", (), {"control_of": "method" if name == "shuffled" else None})()


def test_a_method_that_beats_its_control_by_hand():
    table = results(
        method={1: [0.90, 0.91, 0.92], 2: [0.80, 0.70, 0.90]},
        shuffled={1: [0.80, 0.81, 0.82], 2: [0.80, 0.80, 0.80]},
    )
    found = sanity.differences(Study, table)
    # the same difference in every fold: the interval has no width
    assert found.loc[0, ["difference", "low", "high"]].tolist() == pytest.approx([0.1, 0.1, 0.1])
    # differences 0, -0.1, 0.1: mean 0, sd 0.1, t(2) = 4.3027, half width 4.3027 * 0.1 / sqrt(3)
    assert found.loc[1, "high"] == pytest.approx(0.24841, abs=1e-5)
    text = sanity.words(found)
    assert "beats it at 25 % (+10.00 [+10.00, +10.00])" in text
    assert "cannot be told from it at 50 %" in text
    assert "loses" not in text


def test_one_fold_proves_nothing():
    table = results(method={1: [0.9], 2: [0.9]}, shuffled={1: [0.8], 2: [0.8]})
    text = sanity.words(sanity.differences(Study, table))
    assert "beats" not in text
    assert "one fold: no interval" in text


def test_proposed_sparsity_is_the_highest_before_the_first_loss():
    curve = {0.0: 0.95, 0.5: 0.94, 0.75: 0.90, 0.9: 0.945}
    rows = [("a", s, fold, v + d) for s, v in curve.items() for fold, d in ((0, 0.01), (1, -0.01))]
    table = pd.DataFrame(rows, columns=["layer", "sparsity", "fold", "validation_accuracy"])
    # 0.9 is within the tolerance by luck, but 0.75 is not
    assert propose(table, 0.02) == {"a": 0.5}
    assert propose(table, 0.06) == {"a": 0.9}
