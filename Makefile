# Every target does its own set-up: a virtual environment in .venv, filled through constraints.txt.
#   make demo    the main job on the packaged sample study
#   make test    the tests
#   make check   format, lint, types and tests
#   make docs    the pages under docs/ as a site: site/index.html
#   make fuzz    damaged files of every format, many more than the tests try; EXAMPLES=N of each file
#   make bench   speed, quiet and busy, beside the installed peers and the committed table; DATA=DIR adds commands, PARTS="network commands memory long" chooses, SAVE=1 keeps (docs/measurements/speed.md)
#   make house   size and tangle of the code, beside their bars; HOUSE="--against DIR" puts another checkout before it
#   make experiments   what the Perceiver is claimed to do, shown on small data (35 CPU minutes; see docs/experiments)
#   make measurements   what is measured beside what was planted, as pages; RECORDS=DIR, EEG="FILE..." and TIMED="FILE..." add recordings, SHAPES=DIR scores made studies there, and STORES="FILE..." shows their plans, STUDIES=DIR with DATA=DIR tests each shared study by the others, hours (docs/measurements)
#   make models      the models that come with the package, from public data; hours; DATA=DIR holds the data sets (docs/models.md)
#   make soak     commands are killed and given again: KILLS=200 times in all; FAULTS=SOURCE.c fails each file operation; an hour or more, MINUTES=60 stops it and it goes on when given again (docs/measurements/soak.md)
#   make clean   remove what the targets made
# On Linux, torch with CUDA is large; PIP_FLAGS="--extra-index-url ..." takes the CPU build from PyTorch's own index.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
PIP := $(PYTHON) -m pip --disable-pip-version-check -qq
PIP_FLAGS ?=
WORKERS ?= 2
EXAMPLES ?= 300
DEMO_OUTPUT ?= demo-output
EXPERIMENTS_OUTPUT ?= experiments-output
EXPERIMENTS_FLAGS ?=
MODELS_OUTPUT ?= models-output
MODELS_FLAGS ?=
SOAK_OUTPUT ?= soak-output
KILLS ?= 200
DATA ?=
RECORDS ?=
EEG ?=

.PHONY: help setup demo test lint types check docs fuzz soak bench house experiments measurements models clean

help:
	@sed -n 's/^#   \(make .*\)/\1/p' Makefile

setup: $(READY)

$(PYTHON):
	@for candidate in python3 python3.13 python3.12 python3.11 python; do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then echo "no Python 3.11 or newer with venv was found on PATH; install one (python3, python3-venv)" >&2; exit 1; fi; \
	echo "creating $(VENV) with $$("$$found" --version)" >&2; \
	"$$found" -m venv $(VENV)

# torch comes first and alone, so that an extra index given in PIP_FLAGS decides its build.
$(READY): pyproject.toml constraints.txt | $(PYTHON)
	@echo "installing into $(VENV), once: torch first, which is large (1 of 2) ..." >&2
	@$(PIP) install $(PIP_FLAGS) -c constraints.txt torch
	@echo "biopercept with the tools for tests, types and pages: some 120 packages (2 of 2) ..." >&2
	@$(PIP) install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)
	@$(PYTHON) -m biopercept.cli demo -o $(DEMO_OUTPUT)

# One thread a worker: the workers are the parallelism.
test: $(READY)
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile

lint: $(READY)
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .

types: $(READY)
	@$(PYTHON) -m mypy -p biopercept -p cli -p experiments -p measurements -p shipping

check: lint types test

docs: $(READY)
	@$(PYTHON) -m mkdocs build --strict --quiet -f .mkdocs.yml -d site
	@echo "site/index.html"

fuzz: $(READY)
	@FUZZ_EXAMPLES=$(EXAMPLES) OMP_NUM_THREADS=1 $(PYTHON) -m pytest tests/loaders/test_fuzz.py

# FAULTS=SOURCE.c fails each file operation as well. What was stopped goes on where it was; MINUTES=60 stops it.
soak: $(READY)
	@OMP_NUM_THREADS=1 $(PYTHON) tests/soak.py $(SOAK_OUTPUT) --kills $(KILLS) $(if $(FAULTS),--faults $(FAULTS)) $(if $(MINUTES),--minutes $(MINUTES)) -o docs/measurements/soak.md

bench: $(READY)
	@$(PYTHON) -m pip --disable-pip-version-check -qq install -c constraints.txt -e '.[bench]'
	@PYTHONPATH=docs $(PYTHON) -m measurements speed $(if $(DATA),--data $(DATA)) $(addprefix --part ,$(PARTS)) $(if $(SAVE),--save)

house: $(READY)
	@$(PYTHON) .ci/house $(HOUSE)

# A run that was stopped goes on where it was; EXPERIMENTS_FLAGS=--quick is a trial of a minute or two.
experiments: $(READY)
	@for experiment in claims forecast; do \
	  PYTHONPATH=docs $(PYTHON) -m experiments $$experiment -o $(EXPERIMENTS_OUTPUT) -j $(WORKERS) $(EXPERIMENTS_FLAGS); \
	done

measurements: $(READY)
	@PYTHONPATH=docs $(PYTHON) -m measurements hearts $(if $(RECORDS),--records $(RECORDS))
	@PYTHONPATH=docs $(PYTHON) -m measurements signals $(EEG)
	@PYTHONPATH=docs $(PYTHON) -m measurements quality
	@$(if $(TIMED),PYTHONPATH=docs $(PYTHON) -m measurements times $(TIMED))
	@$(if $(SHAPES),PYTHONPATH=docs $(PYTHON) -m measurements shapes $(SHAPES) $(addprefix --store ,$(STORES)))
	@$(if $(STUDIES),$(if $(DATA),,echo "name the folder of the public data sets: STUDIES=DIR DATA=DIR" >&2; exit 2;) \
	  PYTHONPATH=docs OMP_NUM_THREADS=1 $(PYTHON) -m measurements studies $(STUDIES) $(DATA) -j $(WORKERS))

# A run that was stopped goes on where it was, and names in MODELS_FLAGS make only those.
models: $(READY)
	@$(if $(DATA),,echo "name the folder of the public data sets: make models DATA=DIR" >&2; exit 2;) \
	  PYTHONPATH=docs OMP_NUM_THREADS=1 $(PYTHON) -m shipping $(DATA) $(MODELS_FLAGS) -o $(MODELS_OUTPUT) -j $(WORKERS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .benchmarks $(DEMO_OUTPUT) $(EXPERIMENTS_OUTPUT) site bench-output $(MODELS_OUTPUT) $(SOAK_OUTPUT)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
