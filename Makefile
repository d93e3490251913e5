# Every target makes its own environment first: nothing but Python 3.11 to 3.13, make and a package index is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH := .venv-bench
SPEED := results/reference/$(shell date +%F)-speed
STRATEGIES := results/reference/2026-11-30-strategies
LANDSCAPE := $(BENCH)/bin/python -m benchmarks.landscape

.PHONY: help install search test soak baselines bench strategies check lock clean

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

install: $(STAMP) ## make .venv from requirements.lock, if missing or stale

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: $(PYTHON) is not Python 3.11 to 3.13, which TensorFlow has wheels for (make PYTHON=python3.12 ...)" >&2; exit 8; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

search: $(STAMP) ## install, fetch the data, search for about ten minutes, show the result
	$(BIN)/tuner data fetch
	$(BIN)/tuner search cnn --time 11m --epochs 4 --set search.train_images=10000 --refit-epochs 7 --seed 0

test: $(STAMP) ## install, run the tests (about five minutes on two cores)
	$(BIN)/python -m pytest

soak: $(STAMP) ## kill random processes of repeated searches for MINUTES (10), and compare each end with the undisturbed one
	$(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),10)

baselines: $(STAMP) ## train and score the published CNNs (hours; goes on where it was), and put the table into the README
	$(BIN)/tuner baselines --out results/reference
	$(BIN)/python benchmarks/readme.py

$(BENCH)/.installed: requirements.lock benchmarks/requirements.txt pyproject.toml
	$(PYTHON) -m venv --clear $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -r benchmarks/requirements.txt
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

bench: $(BENCH)/.installed ## measure the speed beside Keras, Optuna, KerasTuner and Ray Tune (leave the machine alone)
	mkdir -p $(SPEED)
	$(BENCH)/bin/python benchmarks/startup.py --json $(SPEED)/startup.json
	$(BENCH)/bin/python benchmarks/warm.py --json $(SPEED)/warm.json
	$(BENCH)/bin/python benchmarks/training.py --threads 2 --json $(SPEED)/training-2-threads.json
	$(BENCH)/bin/python benchmarks/training.py --threads 1 --json $(SPEED)/training-1-thread.json
	$(BENCH)/bin/python benchmarks/workers.py --json $(SPEED)/workers.json
	$(BENCH)/bin/python benchmarks/throughput.py --json $(SPEED)/throughput.json
	$(BENCH)/bin/python benchmarks/accuracy.py --json $(SPEED)/accuracy.json
	$(BENCH)/bin/python benchmarks/coordinator.py --json $(SPEED)/coordinator.json

strategies: $(BENCH)/.installed ## replay ours and its peers on the recorded landscape (an hour; goes on where it was), and draw it
	$(LANDSCAPE) simulate --group peers --trainings 90 --processes 2 --out $(STRATEGIES)/peers
	$(LANDSCAPE) figures --out $(STRATEGIES)/peers
	$(LANDSCAPE) simulate --group variants --trainings 45 --processes 2 --out $(STRATEGIES)/variants
	$(LANDSCAPE) figures --out $(STRATEGIES)/variants
	$(LANDSCAPE) ranks --out $(STRATEGIES)
	$(LANDSCAPE) fidelity --out $(STRATEGIES)

check: $(STAMP) ## ruff, mypy, import contracts, and whether what is generated is as generated
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/readme.py --check

lock: $(STAMP) ## pin the newest versions that pyproject.toml allows
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --group dev pyproject.toml \
	  --no-header --no-annotate --output-file requirements.lock --upgrade

clean: ## remove the environment and caches, no results
	rm -rf $(VENV) $(BENCH) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
