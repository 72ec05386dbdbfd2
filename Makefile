# Every target makes its own .venv first; all it needs is python3.11+, make and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS ?= tests
# Peers are large and only compared with: they live in an environment of their own.
PEERS := .venv-peers
TORCH ?= torch==2.13.0
TINYGRAD ?= tinygrad==0.14.*
# Which benchmarks, by name; all, unless there are any.
BENCH ?=
# Many tests wait for processes: one worker more than cores.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(8, 1 + (os.cpu_count() or 1)))')

.PHONY: help demo test check peers bench replay release soak soak-schedules format clean

help:
	@echo "make demo         the whole product once, on this machine (ONCE=1: exit when verified)"
	@echo "make test         the test suite (TESTS=path for a part of it, ALL=1 with the slow tests)"
	@echo "make check        format, lint, types, architecture"
	@echo "make peers        the engine against PyTorch: values, gradients, losses; writes docs/models.md"
	@echo "make bench        benchmarks: ratios to peers, measured in the same run (BENCH='gemm launch' for some, FULL=1 for all rows)"
	@echo "make replay       generated sources compared with those of a revision (BASE=rev; without, the last commit)"
	@echo "make release      what nodes install: wheels with hashes, signed (VERSION=1.0.0, KEY=file, PYTHONS='3.11 3.12', PINS=new)"
	@echo "make soak         longer runs of randomized tests"
	@echo "make soak-schedules  100,000 random schedules (COUNT=n), which may be interrupted"
	@echo "make format       let ruff rewrite what it can"

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tinyfleet needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "could not make $(VENV); on Debian: apt-get install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.runtime: pyproject.toml $(VENV)/.made
	@echo "installing tinyfleet into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.made
	@echo "installing tinyfleet and its development tools into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime
	@$(BIN)/python -m infra.demo $(if $(ONCE),--once)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not soak $(if $(ALL),,and not slow)" $(TESTS)

replay: $(VENV)/.dev
	@$(BIN)/python -m tests.replay $(or $(BASE),HEAD)

# The same sources, pins and key give the same bytes. Without KEY a lab's key is made in dist/.
release: $(VENV)/.runtime
	@$(BIN)/python -m infra.release $(if $(VERSION),--version '$(VERSION)') $(if $(KEY),--key '$(KEY)') $(if $(PYTHONS),--python $(PYTHONS)) $(if $(PINS),--update-pins)

soak: $(VENV)/.dev
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -rP -m soak --timeout 3600 $(TESTS)

# Over hours; interrupted, it goes on where it stopped.
soak-schedules: $(VENV)/.dev
	@$(BIN)/python -m tests.schedule_soak --count $(or $(COUNT),100000)

check: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_architecture.py

$(PEERS)/.made: pyproject.toml
	@$(PYTHON) -m venv $(PEERS)
	@echo "installing $(TORCH) and others into $(PEERS) …"
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check '$(TORCH)' 'scikit-learn>=1.5' 'pytest>=8.2' 'pytest-timeout>=2.3' -e .
	@touch $@

peers: $(PEERS)/.made
	@$(PEERS)/bin/python -m pytest -q --noconftest -p no:cacheprovider tests/peers/calls.py tests/peers/gradients.py tests/peers/conventions.py tests/peers/moving.py tests/peers/training.py tests/peers/moved_scripts.py
	@$(PEERS)/bin/python -m tests.peers.meaning
	@$(PEERS)/bin/python -m tests.peers.models

# Without the network, or where PyTorch cannot be installed, the benchmarks run without peers and say which are missing.
bench: $(VENV)/.runtime
	@$(MAKE) --no-print-directory $(PEERS)/.made || echo "PyTorch cannot be installed here: its columns will say so"
	@$(if $(FULL),[ ! -e $(PEERS)/.made ] || $(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check '$(TINYGRAD)' || \
	  echo "tinygrad cannot be installed here: its row will say so")
	@if [ -e $(PEERS)/.made ]; then PYTHON=$(PEERS)/bin/python; else PYTHON=$(BIN)/python; fi; \
	  "$$PYTHON" -m tests.bench $(if $(FULL),--full) $(BENCH)

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(PEERS) .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
