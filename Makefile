# setup: .venv with pinned packages, once.  run: tune ResNet-50.  smoke: a small model.
# test: lint and all tests.  check: lint, types, import order.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
LINTED := $(wildcard kernels costmodel tuner tests experiments configs)

.PHONY: help setup run smoke test lint check format clean

help:
	@sed -n '1,2s/^# //p' Makefile

setup: $(STAMP)

# The first interpreter that answers with a version that fits: a name alone may be a launcher with nothing behind it.
$(STAMP): pyproject.toml constraints.txt
	@set -eu; \
	if ! $(BIN)/python -c '' 2>/dev/null; then \
	  found=; \
	  for python in $(or $(PYTHON),python3.11 python3.12 python3); do \
	    if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo 'No Python 3.11 or 3.12 found. Install one, or name it: make setup PYTHON=/path/to/python3.11' >&2; exit 2; \
	  fi; \
	  "$$found" -m venv $(VENV); \
	fi
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@$(BIN)/python -m tuner.devices.cuda.simulated.setup
	@touch $@

run: setup
	$(BIN)/python -m tuner run configs/resnet.yaml

smoke: setup
	$(BIN)/python -m tuner run configs/smoke.yaml

test: lint
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check $(LINTED)
	$(BIN)/ruff format --check $(LINTED)

check: lint
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_import_order.py

format: setup
	$(BIN)/ruff check --fix $(LINTED)
	$(BIN)/ruff format $(LINTED)

# Results stay: they are work, not build products.
clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find kernels costmodel tuner tests configs -name __pycache__ -type d -prune -exec rm -rf {} +
