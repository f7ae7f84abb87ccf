# Everything a contributor types. `make` alone lists it. Needs GNU make, Python 3.11 to 3.13 and, once, a package index
# (your own pip configuration applies).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
ARGS ?=
# what the checks look at; folders that do not exist yet are skipped
SOURCES := $(wildcard core functions infra tests bench examples docs)
TESTS := $(wildcard $(addprefix tests/,unit contract integration faults budgets security e2e))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-js setup-localstack dev test test-slow model lint format lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMPS)/setup ## Make .venv with everything; does nothing if nothing changed

$(STAMPS)/setup: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else \
	"This project needs Python 3.11, 3.12 or 3.13 and $(PYTHON) is %d.%d. Name another: make setup PYTHON=python3.12" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@mkdir -p $(STAMPS) && touch $@

# The target `setup-localstack` and what the tests of the deployed stack need besides.
-include infra/localstack/localstack.mk
# The target `compat`.
-include tests/contract/differential/compat.mk
# The targets `bench` and `bench-peers`.
-include bench/bench.mk
# The targets `curves` and `cold-start-deployed`.
-include bench/curves.mk

JS_PACKAGES := tests/js/node_modules/.package-lock.json

setup-js: ## Install the packages of the JavaScript tests, if npm is there
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(JS_PACKAGES); \
	else echo "No npm on the PATH: the JavaScript tests will be skipped. They need Node 20 or later."; fi

$(JS_PACKAGES): tests/js/package.json tests/js/package-lock.json
	cd tests/js && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

dev: setup ## Serve the examples on http://127.0.0.1:2024 (ARGS="--port 8000" passes more)
	@exec $(BIN)/langgraph-serverless dev --config examples/langgraph.json --data-dir .data/dev $(ARGS)

test: setup ## Everything: checks and all tests but the slow ones (ARGS="-k name" passes more)
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint setup-localstack setup-js
ifeq ($(strip $(ARGS)),)
	$(MAKE) --no-print-directory --jobs 3 --output-sync=target test-of-answers test-of-parts test-of-the-stack
	$(MAKE) --no-print-directory --jobs 3 --output-sync=target test-of-faults-1 test-of-faults-2 test-of-faults-3
else
	$(BIN)/python -m pytest $(TESTS) -m "not slow" $(ARGS)
endif

# Three sessions at once are quicker on two cores, as all of them wait a lot; each has database servers of its own, as some tests
# empty theirs. Tests that let things fail in the midst of their work come afterwards, in three parts.
NOT_SLOW := -m "not slow"
.PHONY: test-of-answers test-of-parts test-of-the-stack test-of-faults-1 test-of-faults-2 test-of-faults-3
test-of-answers:
	$(BIN)/python -m pytest $(wildcard tests/contract) $(NOT_SLOW)
test-of-parts:
	TEST_DATA=test-second $(BIN)/python -m pytest $(wildcard tests/integration) $(NOT_SLOW)
# One after the other: unit tests load projects whose modules have the names of others'.
test-of-the-stack:
	TEST_DATA=test-third $(BIN)/python -m pytest $(wildcard tests/unit) $(NOT_SLOW)
	TEST_DATA=test-third $(BIN)/python -m pytest $(wildcard $(addprefix tests/,budgets security)) $(NOT_SLOW)
	TEST_DATA=test-third $(BIN)/python -m pytest $(wildcard tests/e2e) $(NOT_SLOW)

test-of-faults-1:
	$(BIN)/python -m pytest $(wildcard tests/faults/test_[a-h]*.py) $(NOT_SLOW)
test-of-faults-2:
	TEST_DATA=test-second $(BIN)/python -m pytest $(wildcard tests/faults/test_[i-q]*.py) $(NOT_SLOW)
test-of-faults-3:
	TEST_DATA=test-third $(BIN)/python -m pytest $(wildcard tests/faults/test_[r-z]*.py) $(NOT_SLOW)

test-slow: setup ## The tests that take minutes, at full size: about an hour (ARGS="-k name" takes some); figures in .data
ifeq ($(strip $(ARGS)),)
	$(MAKE) --no-print-directory --keep-going --jobs 3 --output-sync=target slow-soak slow-waiting slow-rest; \
	status=$$?; cat .data/figures.txt; exit $$status
else
	$(BIN)/python -m pytest $(TESTS) -m slow $(ARGS)
endif

# Three sessions at once on servers of their own: the soak, which takes its hour whatever happens, what waits most of the time,
# and what works most of the time.
SLOW_WAITING := $(addprefix tests/faults/test_,postgres_restarts.py recovery_time.py hand_off.py history.py redis_lost.py black_hole.py)
.PHONY: slow-soak slow-waiting slow-rest
slow-soak:
	$(BIN)/python -m pytest tests/faults/test_soak.py -m slow
slow-waiting:
	TEST_DATA=test-waiting $(BIN)/python -m pytest $(SLOW_WAITING) -m slow
slow-rest:
	$(BIN)/python -m pytest $(TESTS) -m slow $(addprefix --ignore=,tests/faults/test_soak.py $(SLOW_WAITING))

# Asks the network what is known of what is pinned, so it is no part of `make test`: a job of its own, every night.
AUDITED := base worker dev compat localstack sam
.PHONY: audit fuzz
audit: setup ## Look for known vulnerabilities in everything that is pinned (needs the network)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@failed=; for name in $(AUDITED); do echo "requirements/$$name.txt"; \
	$(BIN)/uv tool run pip-audit@2.10.1 --strict --no-deps --disable-pip --progress-spinner off \
	--requirement requirements/$$name.txt $(ARGS) || failed=1; done; \
	if command -v npm >/dev/null; then (cd tests/js && npm audit --audit-level=high) || failed=1; fi; test -z "$$failed"

SECONDS_EACH ?= 20
fuzz: setup ## Feed every parser for SECONDS_EACH=20 seconds, with atheris if it is installed; finds stay in .data/fuzz
	$(BIN)/python tests/support/fuzzing.py all $(SECONDS_EACH)

.PHONY: cold-start
cold-start: setup ## What each function's import costs: milliseconds, modules, memory (ARGS="--rounds 2 runs" for a quick look)
	$(BIN)/python -m bench.cold_start $(ARGS)

model: ## Check the model of leases and fences with Spin (ARGS=--quick takes seconds)
	@$(PYTHON) docs/design/protocol/check.py $(ARGS)

lint: setup ## ruff, mypy, import-linter, cfn-lint
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	PYTHONPATH=core $(BIN)/lint-imports
	$(BIN)/cfn-lint template.yaml infra/*.yaml

format: setup ## Let ruff rewrite what it can
	$(BIN)/ruff check --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
	--custom-compile-command 'make lock'

lock: setup ## Compile requirements/*.in again (ARGS="--upgrade" takes newer versions)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV_COMPILE) $(ARGS) requirements/dev.in --output-file requirements/dev.txt
	$(UV_COMPILE) requirements/worker.in --constraint requirements/dev.txt --output-file requirements/worker.txt
	$(UV_COMPILE) requirements/base.in --constraint requirements/dev.txt --output-file requirements/base.txt
	$(UV_COMPILE) requirements/compat.in --constraint requirements/worker.txt --output-file requirements/compat.txt
	for peer in aegra langhost; do $(subst 3.11,3.12,$(UV_COMPILE)) $(ARGS) requirements/bench-$$peer.in --output-file requirements/bench-$$peer.txt || exit 1; done

clean: ## Remove .venv, caches and what builds left (databases in .data stay)
	rm -rf $(VENV) tests/js/node_modules .venv-localstack .venv-sam .venv-compat .venv-bench-* .build .aws-sam dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find $(SOURCES) -type d -name __pycache__ -prune -exec rm -rf {} +
