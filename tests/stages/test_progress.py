"""Long work shows a bar with rate and time left on a terminal, and plain lines elsewhere."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from functools import partial
from pathlib import Path

import pytest
import torch

from stages.engine import workers

ROOT = Path(__file__).parents[2]

WORK = """
import os, signal, sys, time
import tqdm  # which on a busy machine takes as long as the steps
from stages.engine import workers
workers.LINE_EVERY = 0.3

def task(fold, report):
    for step in range(1, 21):
        time.sleep(0.05)
        report(step, 20)
    if fold == 1 and KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if fold == 1 and FAILS:
        raise ValueError("fold 1 is broken")
    sys.stdout.write(f"fold {fold} done\\n")  # in one piece: print writes two where unbuffered
    sys.stdout.flush()

workers.each_fold(task, [0, 1], label="finetune row round 1")
"""


def command(fails: bool = False, killed: bool = False):
    code = WORK.replace("FAILS", str(fails)).replace("KILLED", str(killed))
    return [sys.executable, "-c", code]


def on_a_terminal():
    """Return what the work shows on a terminal of 100 columns, and what it prints beside it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with subprocess.Popen(command(), cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # how Linux ends a terminal that nobody holds any more
            pass
        printed = process.communicate()[0].decode()
    os.close(ours)
    assert process.returncode == 0
    return shown.decode(), printed


def test_on_a_terminal_a_bar_of_all_folds_with_rate_and_time_left():
    shown, printed = on_a_terminal()
    states = [state for state in shown.split("\r") if "/40" in state]
    bar = r"finetune row round 1: +\d+%\|.*\| (\d+)/40 \[[\d:]+<([\d:]+|\?), +[\d.?]+step/s\]"
    matches = [re.search(bar, state) for state in states]
    assert all(matches), states
    counts = [int(match[1]) for match in matches]
    assert len(set(counts)) > 3
    assert counts == sorted(counts)
    assert printed.splitlines().count("fold 0 done") == 1


def test_elsewhere_plain_lines():
    done = subprocess.run(command(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if "steps" in line]
    assert len(lines) >= 2
    for line in lines:
        assert re.fullmatch(
            r"finetune row round 1: \d+/40 steps, [\d.]+ a second, \d+ s left", line
        ), line
    assert "\r" not in done.stdout


def test_the_rate_is_that_since_the_first_report(monkeypatch, capsys):
    times = iter((0.0, 50.0, 100.0, 110.0, 120.0, 130.0, 140.0))
    monkeypatch.setattr(workers.time, "monotonic", lambda: next(times))
    show = workers._lines("finetune row round 1")
    for done in (0, 1000, 1100, 1200, 1260):
        show(done, 2000)
    show(-1, -1)
    # It waited for 100 s, went on at step 1000 and made 10 steps a second; a line every 15 s.
    assert capsys.readouterr().out == (
        "finetune row round 1: 1100/2000 steps, 10 a second, 90 s left\n"
        "finetune row round 1: 1260/2000 steps, 8.67 a second, 85 s left\n"
    )


def test_a_fold_that_fails_lets_the_others_end_and_is_told():
    done = subprocess.run(command(fails=True), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "fold 1 is broken" in done.stderr
    assert "fold 0 done" in done.stdout


def test_a_fold_whose_process_is_killed_is_told():
    done = subprocess.run(command(killed=True), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    told = "finetune row round 1: the process of a fold was killed, perhaps for want of memory"
    assert done.stderr.splitlines()[-1] == f"pruning.errors.PruningError: {told}"


def test_folds_one_after_the_other_are_watched_from_the_first_on(monkeypatch):
    monkeypatch.setattr(workers, "WATCH_EVERY", 0.0)
    monkeypatch.setattr(workers, "_display", lambda label: lambda *step: said.append((label, step)))
    said: list = []
    workers.each_fold(
        lambda fold, report: report(fold, 2),
        [0, 1],
        label="finetune",
        device="cuda",
        meanwhile=lambda: said.append("opened"),
        watch=lambda: said.append("watched"),
    )
    folds = [("finetune fold 0", (0, 2)), ("finetune fold 1", (1, 2))]
    ends = [(label, (-1, -1)) for label, _ in folds]
    assert said == ["opened", folds[0], "watched", ends[0], folds[1], "watched", ends[1]]


def note(seen: Path, parent: int, fold: int, report: workers.Report) -> None:
    report(1, 1)
    with seen.open("a") as file:
        file.write(f"{fold} {'aside' if os.getpid() != parent else 'here'}\n")


@pytest.mark.parametrize(
    ("device", "jobs", "begun", "where"),
    [
        ("cuda", 2, False, "aside"),
        ("cuda", 1, False, "here"),
        ("cuda", None, False, "here"),
        ("cuda:1", 2, True, "here"),  # a fork cannot use what this process has begun to
        ("mps", 2, False, "here"),
        ("cpu", 2, True, "aside"),
    ],
)
def test_folds_share_a_gpu_where_jobs_are_given_and_a_fork_can_use_it(
    device, jobs, begun, where, tmp_path, monkeypatch
):
    slots, seen = tmp_path / "slots", tmp_path / "seen"
    slots.touch()
    if jobs:
        monkeypatch.setenv("PRUNING_SLOTS", f"{jobs}:{slots}")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: begun)
    workers.each_fold(partial(note, seen, os.getpid()), [0, 1], label="tune", device=device)
    assert sorted(seen.read_text().splitlines()) == [f"0 {where}", f"1 {where}"]
