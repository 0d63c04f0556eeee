# make setup      a virtual environment in .venv with everything pinned (once; the other targets do it too)
# make test       the test suite, as CI runs it
# make reproduce  run the whole default profile again and hold its tables against the committed ones
# make check      do the committed results belong to the committed code and settings? (a second)
# make smoke      the whole pipeline at toy size (four minutes)
# make gpu        the GPU profile: larger models, downloaded data
# make conformance  this project's and other tools' curvature against exact answers (ten minutes, downloads the tools)
# make benchmarks  time and memory against plain loops and other tools, on an idle machine (twelve minutes, then a page)
# make lint       style of code and notebooks
#
# PY        the Python to build .venv with, 3.11 or newer:           make PY=python3.12 test
# PIP_ARGS  handed to pip, such as an index of CPU-only PyTorch wheels (see the README)

PY ?= python3
PIP_ARGS ?=

# The stages of the pipeline start `python`, which must be the environment's.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: setup test reproduce check smoke gpu conformance benchmarks lint

setup: .venv/.ok

.venv/.ok: requirements.txt constraints.txt pyproject.toml
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PY=python3.12")'
	$(PY) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt $(PIP_ARGS)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

test: .venv/.ok
	.venv/bin/python -m pytest

reproduce: .venv/.ok
	.venv/bin/dvc repro --force
	.venv/bin/python -m nonconvex.compare results/cpu/tables results/cpu/verdicts.csv

check: .venv/.ok
	@.venv/bin/dvc status --quiet dvc.yaml data/dvc.yaml \
	&& echo "The results belong to this code and these settings." \
	|| { echo "Out of date: 'dvc status dvc.yaml' lists what has changed, 'dvc repro' runs it."; exit 1; }

smoke: .venv/.ok
	.venv/bin/python -m nonconvex.lanes profiles/smoke/dvc.yaml

# The GPU profile keeps no dvc.yaml until it has been run, or `dvc status` would report its results as missing.
gpu: .venv/.ok
	cp dvc.yaml profiles/gpu/dvc.yaml
	.venv/bin/dvc repro profiles/gpu/dvc.yaml

# Each tool gets an environment of its own under .conformance/; none becomes a dependency.
conformance: .venv/.ok
	PIP_ARGS='$(PIP_ARGS)' .venv/bin/python -m conformance.build

# ARGS: `--only curvature`, `--device cuda`, ... (see benchmarks/__main__.py).
benchmarks: .venv/.ok
	PIP_ARGS='$(PIP_ARGS)' .venv/bin/python -m benchmarks $(ARGS)

lint: .venv/.ok
	.venv/bin/ruff check
	.venv/bin/ruff format --check src tests benchmarks conformance
