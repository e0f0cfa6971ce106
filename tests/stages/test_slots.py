"""Slots that processes share: never more at once than there are, and none lost with a process."""

import os
import signal
import subprocess
import sys
import time

import pytest

from stages.engine import slots

HOLD = """
import sys, time
from stages.engine.slots import slot
with slot():
    print(time.monotonic(), flush=True)
    time.sleep(float(sys.argv[1]))
    print(time.monotonic(), flush=True)
"""


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Share two slots by the environment."""
    path = tmp_path / "slots"
    path.touch()
    monkeypatch.setenv(slots.VARIABLE, slots.described(path, 2))


def holder(seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLD, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("two")
def test_six_processes_hold_two_slots_two_at_a_time():
    times = [process.communicate()[0].split() for process in [holder(0.15) for _ in range(6)]]
    moments = [(float(began), 1) for began, _ in times] + [(float(end), -1) for _, end in times]
    held, most = 0, 0
    for _, change in sorted(moments):
        held += change
        most = max(most, held)
    assert most == 2
    assert slots.count(otherwise=9) == 2


@pytest.mark.usefixtures("two")
def test_a_process_that_is_killed_gives_its_slot_back():
    killed = [holder(60) for _ in range(2)]
    for process in killed:
        process.stdout.readline()
    waiting = holder(0)
    time.sleep(0.2)
    assert waiting.poll() is None
    killed[0].send_signal(signal.SIGKILL)
    assert len(waiting.communicate(timeout=20)[0].split()) == 2
    for process in killed:
        process.kill()
        process.communicate()


def test_without_the_variable_nobody_waits(monkeypatch):
    monkeypatch.delenv(slots.VARIABLE, raising=False)
    with slots.slot(), slots.slot():
        assert slots.count(otherwise=os.cpu_count()) == os.cpu_count()
