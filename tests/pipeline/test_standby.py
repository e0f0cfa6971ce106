"""Stages of one `dvc repro` are forked from one process that has torch, and nobody can tell."""

import json
import os
import signal
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest

from .conftest import digest, environment
from .test_kills import processes, wait_for

CONDUCTOR = """
import json, os, subprocess, sys
for line in sys.stdin:
    stage = subprocess.Popen(
        json.loads(line), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "DVC_STAGE": "evaluate"},
    )
    print(stage.pid, flush=True)
    said, complained = stage.communicate()
    print(json.dumps([stage.returncode, said, complained]), flush=True)
"""
"""Runs commands as DVC does: one after the other, as their parent."""

SLOW = """
import time
from stages.command import application, torch_stage

def slow() -> None:
    with torch_stage():
        print("at work", flush=True)
        open("at-work", "w").close()
        time.sleep(60)

app = application(slow)

if __name__ == "__main__":
    app()
"""

EVALUATE = ("stages.evaluate", "--experiment", "at-once", "--round")


class Conductor:
    """What stands for DVC in a study's folder."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONDUCTOR],
            cwd=folder,
            env=environment(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, *arguments: str) -> int:
        """Begin a stage and return the number of its process."""
        self.process.stdin.write(json.dumps([sys.executable, "-m", *arguments]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> tuple[int, str, str]:
        """Wait for the stage; return its exit code and what it has said and complained of."""
        return tuple(json.loads(self.process.stdout.readline()))

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self.begin(*arguments)
        return self.end()

    def slow(self) -> int:
        """Begin a stage that takes its time, wait until it is at work, return its process."""
        stage = self.begin("stages.slow")
        wait_for((self.folder / "at-work").exists)
        assert len(processes(self.folder)) == 3  # the stage, the standby, what does the work
        return stage

    def standbys(self) -> list[int]:
        """Return the study's standbys: what is forked from one has its command line too."""
        named = {
            each
            for each in processes(self.folder)
            if b"standby" in Path(f"/proc/{each}/cmdline").read_bytes()
        }
        return [each for each in named if parent(each) not in named]

    def quit(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def conductor(finished):
    module = finished.folder / "stages" / "slow.py"
    module.write_text(SLOW)
    found = Conductor(finished.folder)
    yield found
    found.quit()
    module.unlink()
    (finished.folder / "at-work").unlink(missing_ok=True)
    wait_for(lambda: not processes(finished.folder), seconds=10)  # the standby ends with it


def test_two_stages_share_a_standby_and_leave_the_same_bytes(finished, conductor):
    before = digest(finished.folder / "results")
    assert conductor.run(*EVALUATE, "1") == (0, "", "")
    first = conductor.standbys()
    assert conductor.run(*EVALUATE, "2") == (0, "", "")
    assert len(first) == 1
    assert conductor.standbys() == first
    assert digest(finished.folder / "results") == before


def test_a_standby_has_no_second_thread_when_it_forks(conductor):
    assert conductor.run(*EVALUATE, "1") == (0, "", "")
    (standby,) = conductor.standbys()
    assert len(list(Path(f"/proc/{standby}/task").iterdir())) == 1


@pytest.mark.skipif(find_library("cuda") is None, reason="no driver to load")
def test_a_standby_has_not_loaded_the_accelerator_s_driver_when_it_forks(conductor):
    assert conductor.run(*EVALUATE, "1") == (0, "", "")
    (standby,) = conductor.standbys()
    assert "libcuda.so" not in Path(f"/proc/{standby}/maps").read_text()


@pytest.mark.usefixtures("conductor")
def test_a_rank_of_torchrun_does_its_work_itself(finished):
    ranked = Conductor(finished.folder, RANK="0")
    stage = ranked.begin("stages.slow")
    wait_for((finished.folder / "at-work").exists)
    assert processes(finished.folder) == [stage]
    os.kill(stage, signal.SIGTERM)
    assert ranked.end()[0] == -signal.SIGTERM
    ranked.quit()


def test_a_refusal_is_the_same_line_and_the_same_code(finished, conductor):
    here = finished.stage("evaluate", *EVALUATE[1:], "9", check=False)
    assert conductor.run(*EVALUATE, "9") == (2, here.stdout, here.stderr)
    assert conductor.standbys()


def test_a_stage_runs_the_code_that_is_there_when_it_begins(finished, conductor):
    path = finished.folder / "stages" / "evaluate.py"
    before = path.read_text()
    assert conductor.run(*EVALUATE, "1")[0] == 0
    try:
        path.write_text(before.replace("        study = read(params)\n", "        print(7)\n", 1))
        code, said, complained = conductor.run(*EVALUATE, "1")
    finally:
        path.write_text(before)
    assert (code, said) == (1, "7\n")
    assert "NameError" in complained


@pytest.mark.parametrize(
    ("sent", "code", "complaint"),
    [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, -signal.SIGTERM, "")],
)
def test_a_signal_to_a_stage_reaches_what_does_its_work(conductor, sent, code, complaint):
    os.kill(conductor.slow(), sent)
    assert conductor.end() == (code, "at work\n", complaint)
    assert processes(conductor.folder) == conductor.standbys()


def test_what_does_the_work_dies_with_the_stage(conductor):
    os.kill(conductor.slow(), signal.SIGKILL)
    assert conductor.end() == (-signal.SIGKILL, "at work\n", "")
    wait_for(lambda: processes(conductor.folder) == conductor.standbys(), seconds=10)


def test_a_killed_standby_is_told_and_the_next_stage_starts_another(conductor):
    conductor.slow()
    (standby,) = conductor.standbys()
    os.kill(standby, signal.SIGKILL)
    told = "error: the process that did this stage's work was killed\n"
    assert conductor.end() == (1, "at work\n", told)
    assert not processes(conductor.folder)
    assert conductor.run(*EVALUATE, "1") == (0, "", "")
    assert len(conductor.standbys()) == 1


def test_a_stage_within_another_program_is_done_there(finished):
    code = "import sys; from stages.evaluate import app; app(args=sys.argv[1:])"
    called = [sys.executable, "-c", code, *EVALUATE[1:], "1"]
    done = finished.run(*called, DVC_STAGE="evaluate", PYTHONPATH=str(finished.folder))
    assert not done.stdout + done.stderr
    assert not processes(finished.folder)


@pytest.mark.parametrize("said", ["0", "off"])
def test_without_it_on_request(finished, said):
    conductor = Conductor(finished.folder, PRUNING_STANDBY=said)
    assert conductor.run(*EVALUATE, "1") == (0, "", "")
    assert not conductor.standbys()
    conductor.quit()
