"""The script that dask-jobqueue would submit to SLURM, and the same mechanism with jobs started on this machine.

    python docs/cluster_slurm.py          prints the job script; nothing is submitted
    python docs/cluster_slurm.py --local  starts two workers by their job scripts here, and runs jobs on them

docs/cluster.md walks through both.
"""

import os
import sys

from dask_jobqueue import SLURMCluster
from dask_jobqueue.local import LocalCluster

from nonconvex import beds, config

WORKER = {"cores": 1, "processes": 1, "memory": "4GB"}
HERE = {"job_script_prologue": [f"cd {os.getcwd()}"]}  # data are found from the root of a checkout


def script() -> str:
    """What `sbatch` would be given, once per worker."""
    with SLURMCluster(queue="normal", walltime="08:00:00", **HERE, **WORKER) as cluster:
        return cluster.job_script()


def started_here() -> list[int]:
    """Process numbers of four jobs that two workers ran."""
    settings = config.read("params.yaml")
    with LocalCluster(**WORKER) as cluster:  # its jobs start without a shell, in this folder
        cluster.scale(jobs=2)
        backend = config.Backend(name="dask", scheduler=cluster.scheduler_address, wait=60)
        compute = config.Compute(backend=backend)
        return beds.spread(settings.model_copy(update={"compute": compute}), [os.getpid] * 4)


if __name__ == "__main__":
    if "--local" in sys.argv:
        print("this process:", os.getpid(), "jobs:", started_here())
    else:
        print(script())
