# make setup      a virtual environment in .venv with everything pinned (once; the other targets do it too)
# make test       the test suite, as CI runs it
# make reproduce  run the whole default profile again and hold its tables against the committed ones
# make verify     run it again in a copy and compare, cell by cell; STAGES="study-sam tables" runs those and what follows
# make archive    dist/nonconvex-<version>.zip: the committed state without its history, as for Zenodo
# make check      do the committed results belong to the committed code and settings? (a second)
# make smoke      the whole pipeline at toy size (four minutes)
# make gpu        the GPU profile's grid, at the other axis's baseline: larger models, downloaded data (docs/gpu.md)
# make gpu-cross, gpu-validate, gpu-studies  its whole grid, its published references, its studies
# make conformance  this project's and other tools' curvature against exact answers (ten minutes, downloads the tools)
# make site       the results as pages to read and search, in site/index.html (two minutes, needs no network afterwards)
# make test-site  the tests of the site, with a browser if one is found
# make torture    kill -9 at twenty random moments of a run, and is all as if nothing had happened? (ten minutes)
# make lint       style of code and notebooks, docstrings, format and types
# make benchmarks  time and memory against plain loops and other tools, on an idle machine (twelve minutes, then a page)
#
# PY        the Python to build .venv with, 3.11 or newer:           make PY=python3.12 test
# PIP_ARGS  handed to pip, such as an index of CPU-only PyTorch wheels (see the README)

PY ?= python3
PIP_ARGS ?=

# The stages of the pipeline start `python`, which must be the environment's.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: setup test reproduce verify archive check smoke gpu conformance site test-site lint torture gpu-cross gpu-validate gpu-studies benchmarks

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
	.venv/bin/python -m nonconvex.verify --here

verify: .venv/.ok
	.venv/bin/python -m nonconvex.verify $(STAGES)

archive: .venv/.ok
	.venv/bin/python -m nonconvex.archive

check: .venv/.ok
	@.venv/bin/dvc status --quiet dvc.yaml data/dvc.yaml \
	&& echo "The results belong to this code and these settings." \
	|| { echo "Out of date: 'dvc status dvc.yaml' lists what has changed, 'dvc repro' runs it."; exit 1; }

smoke: .venv/.ok
	.venv/bin/python -m nonconvex.lanes profiles/smoke/dvc.yaml

# The GPU profiles keep no dvc.yaml until they are run, or `dvc status` would report their results as missing.
profiles/gpu/dvc.yaml: dvc.yaml profiles/gpu/validate.yaml
	cat $^ > $@

# The grid and its tables. Claims wait for `make gpu-studies`: their folders are empty, and their verdicts say n = 0.
gpu: .venv/.ok profiles/gpu/dvc.yaml
	$(call grid,gpu)

define grid
.venv/bin/dvc repro profiles/$(1)/dvc.yaml:train profiles/$(1)/dvc.yaml:connectivity
mkdir -p $(addprefix results/$(1)/,effects findings gates)
.venv/bin/dvc repro --single-item $(foreach stage,verdicts tables figures,profiles/$(1)/dvc.yaml:$(stage))
endef

gpu-validate: .venv/.ok profiles/gpu/dvc.yaml
	.venv/bin/dvc repro profiles/gpu/dvc.yaml:validate-edge profiles/gpu/dvc.yaml:validate-resnet

gpu-studies: .venv/.ok profiles/gpu/dvc.yaml
	.venv/bin/dvc repro profiles/gpu/dvc.yaml

# The whole grid is a profile of its own, made from the other one.
gpu-cross: .venv/.ok
	mkdir -p profiles/gpu_cross
	sed -e '/^profile:/s/gpu/gpu_cross/g' -e 's/^  cross: \[\]/  cross: [0, 1, 2]/' profiles/gpu/params.yaml \
	  > profiles/gpu_cross/params.yaml
	cp dvc.yaml profiles/gpu_cross/dvc.yaml
	$(call grid,gpu_cross)

# Each tool gets an environment of its own under .conformance/; none becomes a dependency.
conformance: .venv/.ok
	PIP_ARGS='$(PIP_ARGS)' .venv/bin/python -m conformance.build

.venv/.site: .venv/.ok
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) --editable '.[site,browser]'
	touch $@

site: .venv/.site
	.venv/bin/python -m website
	@echo "Open site/index.html."

test-site: .venv/.site
	.venv/bin/python -m pytest tests/test_site.py

torture: .venv/.ok
	.venv/bin/python tests/kill_smoke.py --kills 20

# ARGS: `--only curvature`, `--device cuda`, ... (see benchmarks/__main__.py).
benchmarks: .venv/.ok
	PIP_ARGS='$(PIP_ARGS)' .venv/bin/python -m benchmarks $(ARGS)

lint: .venv/.ok
	.venv/bin/ruff check
	.venv/bin/ruff format --check src tests benchmarks conformance website
	.venv/bin/mypy
