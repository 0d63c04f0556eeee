#!/usr/bin/env bash
# Two clones stand for two machines. First a remote with DVC's run cache, then branches that are merged.
#
#   docs/cluster_dvc.sh     from the repository, with its environment active
set -euo pipefail
here=$(git rev-parse --show-toplevel)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
pipeline=profiles/smoke/dvc.yaml

clone() {
    git clone --quiet "$here" "$place/$1"
    cd "$place/$1"
    export PYTHONPATH=$PWD/src
    git config user.name "$1"
    git config user.email "$1@example.org"
}

echo "== 1. Outputs in DVC's cache, shared over a remote =="
for machine in first second; do
    clone "$machine"
    sed -i 's/cache: false/cache: true/' "$pipeline"
    dvc remote add --quiet --local --default shared "$place/remote"
done
cd "$place/first" && export PYTHONPATH=$PWD/src
dvc repro --quiet --single-item "$pipeline:settings"
dvc repro --single-item "$pipeline:data@mlp" | tail -3
dvc push --run-cache | tail -1
cd "$place/second" && export PYTHONPATH=$PWD/src
dvc fetch --run-cache "$pipeline" | tail -1 || true
dvc repro --single-item "$pipeline:settings"
dvc repro --single-item "$pipeline:data@mlp"
cmp "$place/first/results/smoke/data/mlp.json" results/smoke/data/mlp.json && echo "same bytes"

echo "== 2. Outputs in git, as committed here: no run cache, but branches =="
clone third
dvc repro --quiet --single-item "$pipeline:settings"
git add --force results/smoke profiles/smoke/dvc.lock
git commit --quiet --message "settings checked"
for model in mlp transformer; do
    git checkout --quiet -b "$model" main
    dvc repro --quiet --single-item "$pipeline:data@$model"
    git add --force results/smoke profiles/smoke/dvc.lock
    git commit --quiet --message "$model"
done
git checkout --quiet main
git merge --quiet mlp
git merge transformer || git checkout --conflict=diff3 profiles/smoke/dvc.lock
git status --short
dvc status "$pipeline:data@mlp" "$pipeline:data@transformer"
