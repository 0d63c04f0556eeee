#!/usr/bin/env bash
# One study on local processes and on a Dask scheduler with two workers, all on this machine; compares every byte.
#
#   docs/cluster_dask.sh [STUDY]     from the repository, with its environment active
#
# Works in a temporary clone of HEAD.
set -euo pipefail
study=${1:-restarts}
port=${PORT:-8786}
clone=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$clone"' EXIT
git clone --quiet "$(git rev-parse --show-toplevel)" "$clone"
cd "$clone"
export PYTHONPATH=$clone/src

run() { # with the settings in which `compute` is $1, to results/$2
    sed "s/^compute:.*/compute: $1/" profiles/smoke/params.yaml > params-walk.yaml
    python -m nonconvex.notebook notebooks/study.ipynb "results/smoke/notebooks/study-$study.ipynb" \
        --params params-walk.yaml --set "study=$study"
    mv results/smoke "results/$2"
}

run '{workers: 2}' local
dask scheduler --host 127.0.0.1 --port "$port" --no-dashboard 2> scheduler.log &
for worker in 1 2; do
    dask worker "tcp://127.0.0.1:$port" --nthreads 1 --no-dashboard 2> "worker$worker.log" &
done
run "{backend: {name: dask, scheduler: \"tcp:\/\/127.0.0.1:$port\"}}" dask
diff --recursive results/local results/dask
echo "$(find results/dask -type f | wc -l) files are the same, byte for byte:"
(cd results/dask && find . -type f)
