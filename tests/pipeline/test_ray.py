"""`python -m stages.run --engine ray` on a Ray of this machine."""

from importlib.util import find_spec

import pytest

from .conftest import SMALL, new_study, same

HAS_RAY = find_spec("ray") is not None


@pytest.mark.skipif(not HAS_RAY, reason="needs the extra ray")
def test_on_ray_the_same_stages_give_the_same_bytes_and_lock(tmp_path, finished):
    study = new_study(tmp_path / "small", SMALL)
    usual = {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    assert study.ran("--engine", "ray", "--jobs", "2", **usual) == finished.executed
    same(study, finished)
    assert "up to date" in study.run("dvc", "status").stdout


@pytest.mark.skipif(HAS_RAY, reason="the extra ray is there")
def test_without_the_extra_one_line_says_what_to_install(tmp_path):
    study = new_study(tmp_path / "small", SMALL)
    done = study.stage("run", "--engine", "ray", check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: the engine ray is not installed; run `pip install 'pruning[ray]'`\n"
    )


def test_an_unknown_engine_is_refused_with_the_choices(tmp_path):
    study = new_study(tmp_path / "small", SMALL)
    done = study.stage("run", "--engine", "dask", check=False)
    assert done.returncode == 2
    assert done.stderr == "error: unknown engine 'dask'; choose from forked, ray\n"
