import pytest

from stages.environment import TRACKING, is_off


@pytest.mark.parametrize(
    ("said", "off"),
    [("off", True), ("0", True), ("No", True), ("false", True), ("on", False), ("", False)],
)
def test_what_switches_off(monkeypatch, said, off):
    assert is_off(TRACKING, {TRACKING: said}) is off
    monkeypatch.setenv(TRACKING, said)
    assert is_off(TRACKING) is off


def test_what_is_not_there_switches_nothing_off():
    assert not is_off(TRACKING, {})
