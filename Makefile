# Every target sets itself up first: a fresh clone needs only Python 3.11+, make and a package index.
PYTHON ?= python3
# Every test starts processes: what they import is compiled once.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo up down test record lint types check lock bench bench-ledger crowd soak chaos mutants protocol replays clean

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.complete ## create .venv from the locked, hashed requirements

$(VENV)/.complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later, please: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: setup ## run the main job: one agent session, killed and resumed, to its end
	$(BIN)/holdfast demo $(ARGS)

up: setup ## run the whole stack in this terminal
	$(BIN)/holdfast up

down: setup ## stop the stack
	$(BIN)/holdfast down

# Tests wait more than they work: three processes keep two cores busy.
PYTEST := $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test: setup ## run all tests
	$(PYTEST)

record: setup ## record golden histories of the workflow's shapes
	$(BIN)/python -m pytest tests/workflows tests/sagas -m golden --record

lint: setup ## ruff and the import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: setup ## mypy, strict
	$(BIN)/mypy holdfast sagas/holdfast_sagas ledger/holdfast_ledger workflows/holdfast_workflows \
	    activities/holdfast_activities workers/holdfast_workers cli/holdfast_cli examples/travel benchmarks \
	    tests/waiting.py $$(find tests -name conftest.py)

check: lint types ## all static checks

# Hashes and names only: a lock must work with whatever package index a machine is set up for.
# One version of each package for every Python, so that what was tested is what runs.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
    --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header

lock: setup ## compile the three requirements files again
	$(COMPILE) pyproject.toml --extra local --extra dev --output-file requirements.lock
	$(COMPILE) pyproject.toml --constraint requirements.lock --output-file requirements-worker.lock
	$(COMPILE) --group pyproject.toml:build --constraint requirements.lock --output-file requirements-build.lock

bench: setup ## measure turn overhead against the bare Temporal loop
	$(BIN)/python -m benchmarks.turns $(ARGS)

bench-ledger: setup ## how many entries a second are appended and verified, and bytes of one
	$(BIN)/python -m benchmarks.ledger

crowd: setup ## 2,000 sessions wait for approval on one worker, then people decide (ARGS=)
	$(BIN)/python -m benchmarks.crowd $(ARGS)

soak: setup ## 10,000 messages to one session (ARGS=)
	$(BIN)/python -m benchmarks.soak $(ARGS)

mutants: setup ## break the effect protocol in many ways; a named test notices each
	$(BIN)/python -m tests.mutants

protocol: setup ## the effect protocol as a state machine, and every saga failing in every way
	$(BIN)/python -m pytest tests/protocol tests/sagas --hypothesis-profile=chaos

replays: setup ## the sessions' tests with workers that keep no workflow: every task is a replay
	$(PYTEST) tests/workflows tests/outages --uncached

chaos: setup ## 200 sessions while everything fails, judged by the services' log (SESSIONS= KILLS= SEED=)
	$(BIN)/holdfast chaos --sessions $(or $(SESSIONS),200) --kills $(or $(KILLS),50) --seed $(or $(SEED),1)
	$(BIN)/python -m pytest tests/stack/test_kills.py --kills $(or $(MOMENTS),4)

clean: ## remove what the build made
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache
