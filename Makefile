# Everything happens in .venv; nothing outside the clone is needed but Python >= 3.11 and make.
# PYTHON names the Python to use; else .venv keeps its own, and a new one gets the newest on PATH.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
export UV_PYTHON_DOWNLOADS := never
# or each process would compile all that it imports
unexport PYTHONDONTWRITEBYTECODE

# Stamps, each written when what it stands for is whole: uv, then the packages that run Flowhook or all for development,
# and commands of releases in an environment of their own.
UV := $(VENV)/.uv
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
TOOLS := $(VENV)/tools/.whole
PROJECT := pyproject.toml hatch_build.py flowhook/__init__.py $(wildcard protos/flowhook/v1/*.proto protos/flowhook/storage/v1/*.proto flowhook/client/aio/*.py install/*.sh)
USABLE := $(shell install/venv.sh usable $(VENV) '$(PYTHON)')

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup codegen lint format unit test test-release coverage fuzz bench chaos run cluster lock vendor docs screenshots baseline dist clean anew

help: ## what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

setup: $(DEV) ## create .venv with the locked dependencies and the flowhook command

$(UV): requirements-uv.lock $(if $(USABLE),,anew)
	@install/venv.sh make $(VENV) '$(PYTHON)'

$(RUN): $(UV) requirements.lock $(PROJECT)
	@install/packages.sh $(VENV) requirements.lock
	@touch $@

$(DEV): $(UV) requirements-dev.lock $(PROJECT)
	@install/packages.sh $(VENV) requirements-dev.lock
	@touch $@

$(TOOLS): $(DEV) requirements-tools.lock
	$(BIN)/uv venv --quiet --clear $(VENV)/tools
	$(BIN)/uv pip sync --quiet --python $(VENV)/tools --require-hashes requirements-tools.lock
	@touch $@

codegen: $(DEV) ## generate flowhook/v1 from protos/, and the blocking client
	$(BIN)/python hatch_build.py

lint: $(DEV) ## ruff, mypy --strict, import-linter, buf
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint
	cd protos && ../$(BIN)/buf breaking --against baseline.binpb

format: $(DEV) ## apply ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Before Python 3.12 there is no cheap way to measure coverage (sys.monitoring).
COVERAGE := import sys; print("--cov --cov-report=" if sys.version_info >= (3, 12) else "")

unit: $(DEV) ## the tests that need no process and no socket, in a minute
	$(BIN)/python -m pytest --numprocesses auto tests/unit tests/conformance/signatures tests/conformance/storage

# More processes than cores: many tests wait for servers, timeouts and processes that start.
test: $(DEV) ## all tests but those of test-release, and the share of lines that they executed
	@rm -f .coverage
	$(BIN)/python -m pytest --numprocesses 6 -m "not release" $$($(BIN)/python -c '$(COVERAGE)')
	@test ! -e .coverage || echo "lines executed: $$($(BIN)/coverage report --format=total) %"

test-release: $(DEV) $(TOOLS) ## what is slow and changes seldom, and all properties with five times the examples
	$(BIN)/python -m pytest --numprocesses 6 -m "release or hypothesis" --hypothesis-profile full

coverage: $(DEV) ## the lines that the last `make test` did not execute, by file
	$(BIN)/coverage report --show-missing

REQUESTS ?= 20000
fuzz: $(DEV) ## send REQUESTS mutated requests to the edges of a cluster; FUZZ_OPTIONS="--seed 1" repeats a run
	PYTHONPATH=tests $(BIN)/python -m fuzz --requests $(REQUESTS) $(FUZZ_OPTIONS)

bench: $(DEV) ## the benchmark table, and bench/latest.json
	$(BIN)/python -m bench

SECONDS ?= 60
STORAGE ?= sqlite
chaos: $(DEV) ## break a local cluster (STORAGE=sqlite or nats) for SECONDS=60, and check that nothing was lost
	$(BIN)/python -m chaos --seconds $(SECONDS) --storage $(STORAGE) $(CHAOS_OPTIONS)

run: $(if $(wildcard $(DEV)),$(DEV),$(RUN)) ## a local cluster with the flows of examples/; Ctrl-C drains and stops it
	@exec $(BIN)/flowhook up --flows examples

cluster: $(DEV) ## the same with three routers, of which two stand by, over a replicated log on three NATS servers
	@exec $(BIN)/flowhook up --routers 3 --storage nats: --flows examples

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links

lock: $(UV) ## renew requirements*.lock from pyproject.toml
	$(COMPILE) --group uv --output-file requirements-uv.lock
	$(COMPILE) --group tools --output-file requirements-tools.lock
	$(COMPILE) --extra dev --group build --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) --extra proto --extra otel --group build --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml

vendor: ## renew the vendored files of the console from npm, as their manifest says
	python3 install/vendor.py

docs: $(DEV) ## build the site of docs/ into build/site; a link that leads nowhere is an error
	$(BIN)/zensical build --strict
	$(BIN)/python -m harness.site_files build/site

screenshots: $(DEV) ## renew the pictures of the console in docs/screenshots; needs chromium
	$(BIN)/python -m harness.screenshots

baseline: $(DEV) ## renew protos/baseline.binpb, which `buf breaking` compares the gRPC API with
	cd protos && ../$(BIN)/buf build --exclude-source-info --output baseline.binpb

dist: $(DEV) $(TOOLS) ## what a release publishes, into dist/; FLOWHOOK_REPOSITORY_URL is the repository's public address
	install/release.sh $(VENV)

clean: ## remove .venv and what was built
	rm -rf $(VENV) dist build flowhook/client/sync flowhook/storage flowhook/v1 .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage
