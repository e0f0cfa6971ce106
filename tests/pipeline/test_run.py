"""`python -m stages.run`: what a change reruns, stops, failures; all of it as `dvc repro` does."""

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from stages.engine.calls import parsed

from .conftest import DONE
from .test_caching import FINETUNE_AND_EVALUATE


def faster(params):
    params["methods"]["at-once"]["finetune"]["learning_rate"]["base"] = 0.03


def at_work(folder: Path) -> list[int]:
    """Return the processes whose working folder is in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inside = (process / "cwd").readlink().is_relative_to(folder)
        except OSError:  # ended meanwhile, or not ours
            continue
        found += [int(process.name)] if inside else []
    return found


def test_dvc_finds_everything_up_to_date_and_so_does_a_second_run(study):
    assert "up to date" in study.run("dvc", "status").stdout
    assert study.ran() == set()


def stopped(study, signal_number: int) -> set[str]:
    """Run, stop once the first stage is done, and return which are done; nobody may be left."""
    # What a shell starts in the background ignores it, and so would a child of the tests.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.run"],
        cwd=study.folder,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
    )
    said = ""
    for line in process.stdout:
        said += line
        if DONE.match(line):
            break
    process.send_signal(signal_number)
    said += process.stdout.read()
    process.stdout.close()
    assert process.wait() == (130 if signal_number == signal.SIGINT else -signal_number)
    deadline = time.monotonic() + 10
    while at_work(study.folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert at_work(study.folder) == []
    return set(DONE.findall(said))


def test_a_change_reruns_what_repro_reruns_each_once_however_often_it_is_stopped(study):
    lock = (study.folder / "dvc.lock").read_bytes()
    before = (study.folder / "params.yaml").read_text()
    study.params(faster)
    parts = [stopped(study, signal.SIGINT), stopped(study, signal.SIGKILL), study.ran()]
    assert set.union(*parts) == FINETUNE_AND_EVALUATE | {"compare"}
    assert sum(map(len, parts)) == len(FINETUNE_AND_EVALUATE) + 1
    assert "up to date" in study.run("dvc", "status").stdout
    (study.folder / "params.yaml").write_text(before)
    assert study.ran() == set()  # all of it is in the cache
    assert (study.folder / "dvc.lock").read_bytes() == lock


def test_a_stage_that_fails_is_named_and_the_others_are_done(study):
    def diverging(params):
        params["methods"]["at-once"]["finetune"]["learning_rate"]["base"] = 1e30
        params["methods"]["step-by-step"]["prune"]["allocation"] = "layerwise"

    study.params(diverging)
    done = study.stage("run", check=False)
    assert done.returncode == 2
    assert "the loss became" in done.stdout
    assert done.stderr.splitlines()[-1] == (
        "error: failed: finetune@at-once-round0, finetune@at-once-round1; 3 that need them were "
        "not run"
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert "finetune@step-by-step-round1" in DONE.findall(done.stdout)


def test_a_source_that_changes_while_stages_run_is_not_written_down(study, tmp_path):
    code = study.folder / "stages" / "finetune.py"
    source = code.read_text()
    study.params(faster)
    code.write_text(source + "\n# new\n")
    command = [sys.executable, "-m", "stages.run", "finetune@at-once-round0"]
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(command, cwd=study.folder, stdout=file, stderr=file)
        while process.poll() is None and len(at_work(study.folder)) < 2:  # the workers' process
            time.sleep(0.01)
        code.write_text(source + "\n# newer\n")
        assert process.wait() == 2
    assert "finetune.py changed meanwhile; nothing of it is kept, run again" in output.read_text()


def test_bad_params_are_refused_before_dvc_touches_anything(study):
    study.params(lambda params: params["rounds"][0].update(sparsity=1.5))
    done = study.stage("run", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: params.yaml: rounds.0.sparsity: 1.5")
    assert done.stderr.count("\n") == 1


def test_an_unknown_target_is_one_line(study):
    done = study.stage("run", "finetune@nobody", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "finetune@nobody" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("python -m stages.prune --round 1", ("stages.prune", ["--round", "1"])),
        ("exec python -m stages.prune --round 1", ("stages.prune", ["--round", "1"])),
        ("python -m stages.prune && rm -r work", ("", [])),
        ("python -m other.prune", ("", [])),
        ("FAST=1 python -m stages.prune", ("", [])),
        ("./mine.sh", ("", [])),
    ],
)
def test_only_a_plain_stage_command_is_run_without_a_shell(command, found):
    assert parsed(command) == found
