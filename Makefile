# A fresh machine needs Python 3.10 or newer and make:
#   make demo    guard a full-size GPT-2, once within its budget and once over it
#   make test    run the quick tests
# DEPS chooses the versions of everything else, each in an environment of its own:
#   locked   the versions of requirements-dev.txt (the default)
#   newest   the newest releases
#   lowest   the lowest versions of the package's own dependencies
# torch is installed first and alone, from TORCH: any requirement and pip options, for example
#   make test TORCH='torch==2.11.0'
# WHEEL is the package under test; without it, a wheel is built from this checkout.
PYTHON ?= python3
DEPS ?= locked
TORCH ?= $(TORCH_$(DEPS))
TORCH_locked := torch==2.13.0
TORCH_newest := torch
TORCH_lowest := torch==2.11.0
VENV ?= $(VENV_$(DEPS))
VENV_locked := .venv
VENV_newest := .venv-newest
VENV_lowest := .venv-lowest
WHEEL ?=
JOBS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready

.PHONY: help demo test test-full lint format docs-check examples coverage bench bakeoff memory-accuracy setup lock clean FORCE
.DEFAULT_GOAL := help

help:
	@echo "make demo | test | test-full | lint | format | docs-check | examples | coverage | bench | bakeoff | memory-accuracy | setup | lock | clean"

setup: $(READY)

$(BIN)/python:
	$(if $(VENV),,$(error DEPS=$(DEPS): expected locked, newest or lowest))
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade "pip>=25.1"

# Runs every time and touches the stamp only where TORCH has changed, so nothing else is made again without need.
$(VENV)/.torch: $(BIN)/python FORCE
	@printf '%s\n' "$(TORCH)" | cmp -s - $@ || \
	  { echo "installing $(TORCH)" && $(PIP) install --quiet $(TORCH) && printf '%s\n' "$(TORCH)" > $@; }

INSTALL_locked = $(PIP) install --quiet --require-hashes --requirement requirements-dev.txt
INSTALL_newest = $(PIP) install --quiet --group dev .
# pip resolves to the newest versions only.
INSTALL_lowest = $(PIP) install --quiet uv && \
  $(BIN)/uv pip install --quiet --python $(BIN)/python --resolution lowest-direct --requirement pyproject.toml && \
  $(INSTALL_newest)

$(VENV)/.dependencies: pyproject.toml requirements-dev.txt tests/action/requirements.txt $(VENV)/.torch
	$(INSTALL_$(DEPS))
	$(PIP) install --quiet --require-hashes --requirement tests/action/requirements.txt
	@touch $@

# Tests run against an installed wheel, as users have it, and not against this folder.
PACKAGED := $(shell find pytest_flopguard -type f -not -name '*.pyc') pyproject.toml README.md LICENSE
$(READY): $(VENV)/.dependencies $(if $(WHEEL),$(WHEEL),$(PACKAGED))
ifeq ($(WHEEL),)
	rm -rf build/wheel
	$(BIN)/python -m hatchling build -t wheel -d build/wheel >/dev/null
	$(PIP) install --quiet --no-deps --force-reinstall build/wheel/*.whl
else
	$(PIP) install --quiet --no-deps --force-reinstall $(WHEEL)
endif
	@touch $@

# Resolved for every supported Python and system at once.
lock: $(BIN)/python
	$(PIP) install --quiet uv
	@{ sed '/^#/!Q' requirements-dev.txt; \
	  echo "torch ; python_version < '3'" > $(VENV)/without-torch.txt; \
	  $(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.10 --upgrade \
	    --generate-hashes --no-header --no-annotate --quiet --overrides $(VENV)/without-torch.txt; } > $(VENV)/lock.txt
	mv $(VENV)/lock.txt requirements-dev.txt

demo: $(READY)
	$(BIN)/python examples/demo.py

# The rooms without torch. Only their own tests count for their coverage, so these run first and by themselves.
MEASURED := core budgets formulas
# One thread for each worker: two workers with two threads each are slower on two cores.
PYTEST = $(BIN)/pytest -n $(JOBS) --dist worksteal $(TIER)

# The tests that are not marked slow.
test: TIER := -m "not slow"

test test-full: coverage
	OMP_NUM_THREADS=1 $(PYTEST) $(MEASURED:%=--ignore=tests/%)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs-check: $(READY)
	$(BIN)/pytest tests/docs

examples: $(READY)
	$(BIN)/pytest tests/examples

# Lines and branches together, in whatever copy of the package is installed.
coverage: $(READY)
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run $(PYTEST) $(MEASURED:%=tests/%)
	$(BIN)/coverage combine --quiet
	for room in $(MEASURED); do \
	  $(BIN)/coverage report --include="*/pytest_flopguard/$$room/*" --fail-under=95 || exit 1; \
	done

bench: $(READY)
	$(BIN)/python benchmarks/overhead.py

# Installs the peers into build/peers and writes the tables of docs/explanation/accuracy.md.
bakeoff: $(READY)
	$(BIN)/python benchmarks/bakeoff.py --write

# Predicts the memory zoo and writes the table of docs/explanation/memory-accuracy.md.
memory-accuracy: $(READY)
	$(BIN)/python benchmarks/memory_accuracy.py --write

clean:
	rm -rf .venv .venv-newest .venv-lowest dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*

FORCE:
