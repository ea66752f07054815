# Museway's commands. Each does its own set-up; nothing here decides anything, it calls tools.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --warn-undefined-variables
SHELL := /bin/sh

# The first Python of at least 3.11 that really starts (a version manager's stub may not).
PYTHON := $(firstword $(foreach name,python3.11 python3 python3.12 python3.13,$(shell \
	$(name) -I -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $(name))))
BIN := .venv/bin
# Arguments for pytest: `make test PYTEST='-k journal'`.
PYTEST :=

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: install
install: ## Make .venv with everything (nothing to do: 0.1 s)
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or later on PATH"; exit 1; }
	@$(PYTHON) -I infra/dev/install.py

.PHONY: demo
demo: install ## Everything on this machine, from nothing: one question in every mode, priced and proved
	@$(BIN)/museway demo

.PHONY: test
test: check ## All checks and all tests, a real SGLang worker included
	$(BIN)/pytest -n 2 --dist loadgroup $(PYTEST)

.PHONY: check
check: lint types contracts generated tidy ## What needs no test run: lint, types, contracts, generated files, house rules

.PHONY: lint
lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: types
types: install
	$(BIN)/pyright
	$(BIN)/mypy

.PHONY: contracts
contracts: install
	$(BIN)/lint-imports

.PHONY: generated
generated: install
	$(BIN)/python -m museway_platform.api.openapi --check sdk/openapi.json
	$(BIN)/python sdk/codegen/generate.py --check
	$(BIN)/python -m museway_platform.database.migrate --check

.PHONY: tidy
tidy: install
	$(BIN)/pytest -q tests/tidy

.PHONY: format
format: install ## Let ruff format and mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: bench
bench: install ## The gateway against a fake engine, beside a skeleton and nginx: tests/bench/RESULTS.md
	PYTHONPATH=tests $(BIN)/python -m bench.run

.PHONY: chaos
chaos: install ## Faults in large numbers and every mutant, from one seed (CHAOS_SEED=… repeats it; under an hour)
	@seed=$${CHAOS_SEED:-$$($(BIN)/python -c 'import secrets; print(secrets.randbelow(1000000000))')}; echo "chaos: CHAOS_SEED=$$seed"; \
	CHAOS=1 CHAOS_SEED=$$seed $(BIN)/pytest -q tests/faults $(PYTEST)
