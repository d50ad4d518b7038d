# Everything happens in .venv; nothing outside the clone is needed but Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup codegen lint format test bench run lock clean

help: ## what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-9s %s\n", $$1, $$2}'

setup: $(STAMP) ## create .venv with the locked dependencies and the flowhook command

$(STAMP): requirements.lock pyproject.toml hatch_build.py $(wildcard protos/flowhook/v1/*.proto)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Flowhook needs Python 3.11 or newer; try make PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

codegen: $(STAMP) ## generate flowhook/v1 from protos/
	$(BIN)/python hatch_build.py

lint: $(STAMP) ## ruff, mypy --strict, import-linter, buf
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint

format: $(STAMP) ## apply ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(STAMP) ## the whole test suite
	$(BIN)/python -m pytest --numprocesses 2

bench: $(STAMP) ## the benchmark table, and bench/latest.json
	$(BIN)/python -m bench

run: $(STAMP) ## a local cluster with the flows of examples/; Ctrl-C drains and stops it
	@exec $(BIN)/flowhook up --flows examples

lock: ## renew requirements.lock from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --extra dev --output-file requirements.lock pyproject.toml

clean: ## remove .venv and what was built
	rm -rf $(VENV) dist build flowhook/v1 .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
