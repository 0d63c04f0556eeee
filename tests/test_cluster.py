"""Jobs on a Dask cluster of two real worker processes: the local run's records, a killed worker, and refusals."""

import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml
from distributed import KilledWorker, LocalCluster

from nonconvex import beds, check, cluster, config, experiment, plan
from nonconvex.config import Backend, Compute, ConfigError
from nonconvex.plan import Member

ROOT = Path(__file__).resolve().parents[1]
SMOKE = config.read(ROOT / "profiles" / "smoke" / "params.yaml")
MEMBERS = [Member(name, 0.1, seed, "reported") for name in ("cosine", "constant") for seed in (0, 1, 2)]
NOBODY = "tcp://127.0.0.1:9"  # the discard port
LOCAL = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
THREADS = {"processes": False, "protocol": "tcp://", **LOCAL}  # workers that are threads of this process


@pytest.fixture(scope="module")
def workers():
    """Two worker processes, each under a nanny that replaces it when it dies."""
    with LocalCluster(n_workers=2, threads_per_worker=1, **LOCAL) as running:
        running.scheduler.allowed_failures = 1  # of a job; Dask's default is 3
        yield running


def settings(**backend) -> config.Settings:
    """The smoke profile's ResNet bed, four steps long; on two local processes or on a cluster."""
    bed = SMOKE.train["resnet"].model_copy(update={"steps": 4, "cohort": 2, "test_examples": 100})
    compute = Compute(workers=None if backend else 2, backend=Backend(**backend))
    return SMOKE.model_copy(update={"train": {**SMOKE.train, "resnet": bed}, "compute": compute})


def on(running: LocalCluster, **backend) -> config.Settings:
    return settings(name="dask", scheduler=running.scheduler_address, **backend)


def content(outcome: experiment.Outcome) -> tuple:
    """All that an outcome holds, weights as their bytes."""
    weights = {name: value.numpy().tobytes() for name, value in outcome.endpoints.items()}
    return outcome.runs, outcome.curves, outcome.measurements, weights


@pytest.fixture(scope="module")
def local():
    """What local processes make of the members."""
    found = experiment.run_all(settings(), "resnet", "none", MEMBERS)
    assert len(found.runs) == 6 and found.measurements and found.endpoints
    return content(found)


def test_records_are_those_of_the_local_run(workers, local):
    assert content(experiment.run_all(on(workers), "resnet", "none", MEMBERS)) == local


def mortal(tries: Path, job):
    """The job; the first worker that tries it is killed with the result in its hands."""
    with tries.open("a") as file:
        file.write(f"{os.getpid()}\n")
    result = job()
    if len(tries.read_text().splitlines()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def test_a_worker_killed_half_way_loses_nothing(workers, local, tmp_path):
    parts = plan.dealt(MEMBERS, 2)
    jobs = [partial(experiment.run_cohort, settings(), "resnet", "none", part) for part in parts]
    jobs[1] = partial(mortal, tmp_path / "tries", jobs[1])
    outcomes = beds.spread(on(workers), jobs)
    assert len(set((tmp_path / "tries").read_text().split())) == 2, "tried by two processes"
    assert content(experiment.merged([m for part in parts for m in part], MEMBERS, outcomes)) == local


def test_jobs_run_on_the_workers_and_come_back_in_order(workers):
    found = beds.spread(on(workers), [partial(divmod, number, 7) for number in range(20)])
    assert found == [divmod(number, 7) for number in range(20)]
    assert os.getpid() not in beds.spread(on(workers), [os.getpid] * 4)


def test_what_a_job_raises_is_raised_here(workers):
    with pytest.raises(ZeroDivisionError):
        beds.spread(on(workers), [partial(divmod, 1, 0)])


def test_a_job_that_kills_every_worker_ends_the_stage(workers):
    """As one does that needs more memory than any worker has."""
    with pytest.raises(KilledWorker):
        beds.spread(on(workers), [partial(divmod, 1, 1), os.abort])


def refused(one: config.Settings, message: str, tmp_path: Path) -> None:
    """Checking the settings and running jobs under them both say why not, and no job is started anywhere."""
    with pytest.raises(ConfigError, match=message):
        check.check(one)
    with pytest.raises(ConfigError, match=message):
        beds.spread(one, [(tmp_path / "started").touch] * 2)
    assert not (tmp_path / "started").exists()


def test_a_cluster_without_its_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    refused(settings(name="dask", scheduler=NOBODY), r"not installed; .*pip install -e '\.\[cluster\]'", tmp_path)


def test_a_scheduler_that_does_not_answer(tmp_path):
    one = settings(name="dask", scheduler=NOBODY, wait=0.5)
    refused(one, "compute.backend.scheduler: no connection to tcp://127.0.0.1:9 within 0.5 s", tmp_path)


def test_a_scheduler_without_workers(tmp_path):
    with LocalCluster(n_workers=0, **THREADS) as running:
        refused(on(running, wait=0.5), "has no worker after 0.5 s; `dask worker` starts one", tmp_path)


def test_workers_with_several_threads(tmp_path):
    """Jobs seed generators and set thread counts of their process, so a process runs one at a time."""
    with LocalCluster(n_workers=1, threads_per_worker=2, **THREADS) as running:
        refused(on(running), "has 2 threads; start it with --nthreads 1", tmp_path)


@pytest.mark.parametrize("name", ["code", "data", "Python", "numpy", "torch"])
def test_workers_that_differ_from_here(name, workers, monkeypatch, tmp_path):
    here = cluster.environment()
    monkeypatch.setattr(cluster, "environment", lambda: {**here, name: "changed"})
    refused(on(workers), rf"worker tcp://\S+ differs in {name} \({re.escape(here[name])}, here changed\)", tmp_path)


def test_a_worker_that_joins_late_is_compared_too(tmp_path):
    with pytest.raises(ConfigError, match="differs in code"):
        cluster.alike({**cluster.environment(), "code": "changed"}, (tmp_path / "started").touch)
    assert not (tmp_path / "started").exists()


def test_the_environment_knows_code_and_data(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = cluster.environment.__wrapped__()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mnist1d.npz").write_bytes(b"examples")
    after = cluster.environment.__wrapped__()
    assert [name for name in before if before[name] != after[name]] == ["data"]


BAD = {
    "no scheduler": ({"backend": {"name": "dask"}}, "dask needs a scheduler"),
    "no address": ({"backend": {"name": "dask", "scheduler": "node1"}}, r"compute.backend.scheduler.*found 'node1'"),
    "no port": ({"backend": {"name": "dask", "scheduler": "tcp://node1"}}, r"compute.backend.scheduler.*pattern"),
    "loky": ({"backend": {"name": "loky", "scheduler": NOBODY}}, "loky runs on this machine"),
    "implied loky": ({"backend": {"scheduler": NOBODY}}, "loky runs on this machine"),
    "engine": ({"backend": {"name": "ray"}}, r"compute.backend.name.*'loky' or 'dask', found 'ray'"),
    "key": ({"backend": {"shceduler": NOBODY}}, r"unknown key \(did you mean scheduler\?\)"),
    "workers": ({"workers": 2, "backend": {"name": "dask", "scheduler": NOBODY}}, "workers must be null with dask"),
    "no wait": ({"backend": {"name": "dask", "scheduler": NOBODY, "wait": 0}}, "wait.*greater than 0, found 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_that_name_no_cluster(name, tmp_path):
    compute, message = BAD[name]
    file = tmp_path / "params.yaml"
    content = yaml.safe_load((ROOT / "profiles" / "smoke" / "params.yaml").read_text())
    file.write_text(yaml.safe_dump({**content, "compute": compute}))
    with pytest.raises(ConfigError, match=message):
        config.read(file)


def test_the_default_runs_here():
    assert Compute() == Compute(backend=Backend(name="loky"))
    assert {os.getpid()} == set(beds.spread(SMOKE.model_copy(update={"compute": Compute(workers=1)}), [os.getpid]))
