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

echo "== 1. Outputs in DVC's cache, shared over a remote: the second machine runs nothing =="
for machine in first second; do
    clone "$machine"
    sed -i 's/cache: false/cache: true/' "$pipeline"
    dvc remote add --quiet --local --default shared "$place/remote"
done
cd "$place/first" && export PYTHONPATH=$PWD/src
dvc repro --quiet --single-item "$pipeline:settings" "$pipeline:data@mlp"
dvc push --run-cache --quiet
cd "$place/second" && export PYTHONPATH=$PWD/src
dvc repro --quiet --single-item "$pipeline:settings"
dvc repro --pull --single-item "$pipeline:data@mlp" | grep "Stage\|Running"
cmp "$place/first/results/smoke/data/mlp.json" results/smoke/data/mlp.json && echo "same bytes"

echo "== 2. Outputs in git, as committed here: a branch per machine, merged =="
clone third
models="mlp transformer"
record() { git add --force results/smoke profiles/smoke && git commit --quiet --message "$1"; }
dvc repro --quiet --single-item "$pipeline:settings" "$pipeline:data@mlp" "$pipeline:data@transformer"
record "A state from which both stages go out of date:"
sed -i 's/context: 16/context: 8/; s/widths: \[100, 100\], skip: false/widths: [90, 90], skip: false/' profiles/smoke/params.yaml
dvc repro --quiet --single-item "$pipeline:settings"
record "Other settings"
for model in $models; do # each on its machine
    git checkout --quiet -b "$model" main
    dvc repro --quiet --single-item "$pipeline:data@$model"
    record "$model under the other settings"
done
git checkout --quiet main
dvc status "$pipeline:data@mlp" "$pipeline:data@transformer" | grep "data@"
for model in $models; do git merge --quiet --no-edit "$model"; done
dvc status "$pipeline:data@mlp" "$pipeline:data@transformer"
