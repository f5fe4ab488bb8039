# A fresh machine needs Python 3.10 or newer and make:
#   make demo    guard a full-size GPT-2, once within its budget and once over it
#   make test    run the tests
# torch comes first and alone, from TORCH: any requirement and pip options, for example
#   make test TORCH='torch==2.11.0'
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
JOBS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready

.PHONY: help demo test lint format docs-check examples coverage bench bakeoff memory-accuracy setup clean FORCE
.DEFAULT_GOAL := help

help:
	@echo "make demo | test | lint | format | docs-check | examples | coverage | bench | bakeoff | memory-accuracy | setup | clean"

setup: $(READY)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Runs every time and touches the stamp only where TORCH has changed, so nothing else is made again without need.
$(VENV)/.torch: $(BIN)/python FORCE
	@printf '%s\n' "$(TORCH)" | cmp -s - $@ || \
	  { echo "installing $(TORCH)" && $(PIP) install --quiet $(TORCH) && printf '%s\n' "$(TORCH)" > $@; }

$(READY): pyproject.toml tests/action/requirements.txt $(VENV)/.torch
	$(PIP) install --quiet --upgrade "pip>=25.1"
	$(PIP) install --quiet --editable . --group dev
	$(PIP) install --quiet --require-hashes --requirement tests/action/requirements.txt
	@touch $@

demo: $(READY)
	$(BIN)/python examples/demo.py

# One thread for each worker: two workers with two threads each are slower on two cores.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs-check: $(READY)
	$(BIN)/python -m pytest tests/docs

examples: $(READY)
	$(BIN)/python -m pytest tests/examples

# The rooms without torch are measured by their own tests, each by itself, lines and branches together.
coverage: $(READY)
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -q -n $(JOBS) tests/core tests/budgets tests/formulas
	$(BIN)/coverage combine --quiet
	for room in core budgets formulas; do \
	  $(BIN)/coverage report --include="pytest_flopguard/$$room/*" --fail-under=95 || exit 1; \
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
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*

FORCE:
