# Each target sets itself up: a virtual environment in .venv with what pyproject.toml asks for.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
STUDY ?= .

.PHONY: help install repro test lint ui sync clean

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(INSTALLED): pyproject.toml pruning/_clearing.c
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

install: $(INSTALLED) ## make the virtual environment

repro: $(INSTALLED) ## run the pipeline of params.yaml: whatever is not cached
	@test -d .git || { echo 'error: dvc repro needs a git clone; run `git init` here first' >&2; exit 2; }
	$(BIN)/python -m stages.check
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro
	@echo 'Report: reports/report.md.  MLflow: `make ui`, then open http://127.0.0.1:5000'

test: $(INSTALLED) ## run the tests
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q $(TESTS)

lint: $(INSTALLED) ## lint, format check, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: $(INSTALLED) ## show the MLflow store of this folder, or of STUDY=papers/NAME, in a browser
	cd "$(STUDY)" && MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true \
	"$(CURDIR)/$(BIN)/mlflow" server --backend-store-uri "sqlite:///$$PWD/mlflow.db" --workers 1 --port 5000

sync: $(INSTALLED) ## log into MLflow whatever its store lacks
	$(BIN)/python -m stages.sync

clean: ## forget the virtual environment; results stay
	rm -rf $(VENV) build *.egg-info pruning/*.so
