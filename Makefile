PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.made-from-lock

.PHONY: setup run loop check test bench help

help:
	@echo "make setup   .venv from requirements.lock"
	@echo "make run     the whole lifecycle on the built-in corpus"
	@echo "make loop    drift, retraining, gate, swap, refusal, rollback, by itself (9 to 13 minutes)"
	@echo "make check   format, lint, types, import rules, contracts"
	@echo "make test    all tests"
	@echo "make bench   speed and memory beside peers, into docs/performance.md (hours); BENCH=generation: one of them"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11 setup")'
	@if command -v uv >/dev/null 2>&1; then \
	  links="$${UV_FIND_LINKS:-$${PIP_FIND_LINKS:-$$($(PYTHON) -m pip config get global.find-links 2>/dev/null | tr '\n' ' ')}}"; \
	  set -e; [ -x $(BIN)/python ] || uv venv --quiet --seed --python $(PYTHON) .venv; \
	  UV_FIND_LINKS="$$(echo $$links | tr ' ' ',')" uv pip install --quiet --python $(BIN)/python -r requirements.lock; \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	  set -e; [ -x $(BIN)/python ] || $(PYTHON) -m venv .venv; \
	  $(BIN)/python -m pip install --quiet -r requirements.lock; \
	  $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .; \
	fi
	@touch $@

run: setup
	$(BIN)/moteur run

loop: setup
	$(BIN)/python -m benchmarks.loop

BENCH ?= all

bench: setup
	$(BIN)/python -m benchmarks.report $(BENCH) $(if $(DATA),--data $(DATA))

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest tests/contracts

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile
