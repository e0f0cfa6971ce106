"""What must not happen whatever params.yaml says or the disk holds."""

import pytest

from .test_caching import digest

NAMES = ["$(touch pwned); touch pwned", "../../victim", "{victim}"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_a_command_or_a_path_does_nothing_but_end_dvc(study, name):
    victim = study.folder.parent / "victim"
    for part in ("round-0/tuned", "round-1/tuned", "round-1/pruned"):
        (victim / part).mkdir(parents=True, exist_ok=True)
        (victim / part / "precious").write_text("mine")
    name = name.replace("{victim}", str(victim))

    def rename(params):
        params["experiments"] = params["one_shot"] = [name, "at-once"]
        params["iterative"] = []
        params["methods"][name] = params["methods"]["step-by-step"]

    study.params(rename)
    before, work = digest(victim), digest(study.folder / "work")
    done = study.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "Running stage 'snapshot" not in done.stdout
    assert digest(victim) == before
    assert not list(study.folder.glob("pwned")) + list(study.folder.parent.glob("pwned"))
    assert digest(study.folder / "work").items() <= work.items()
    # `make repro` asks this first, and says it in one line
    done = study.stage("check", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: params.yaml: experiments.0: {name!r} is no name")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("stage", "kilobytes", "output"),
    [
        ("prepare", 20, "data/prepared"),
        ("pretrain", 4, "work/dense"),
        ("prune --experiment at-once --round 1", 4, "work/at-once/round-1/pruned"),
        ("compare", 20, "reports"),
    ],
)
def test_a_disk_that_is_full_leaves_the_output_as_it_was(finished, stage, kilobytes, output):
    # a limit on the size of files is met as a full disk is: the write itself fails, in the middle
    folder = finished.folder / output
    before = digest(folder)
    command = f"ulimit -f {kilobytes}; exec python -m stages.{stage}"
    done = finished.run("bash", "-c", command, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert digest(folder) == before
    assert not list(folder.parent.glob(f".{folder.name}.*"))
