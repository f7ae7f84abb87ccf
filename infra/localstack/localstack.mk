# LocalStack without containers, for the end-to-end tests. Included by the Makefile.
#
#   make setup-localstack   two environments of their own (their pins contradict ours); nothing to do if unchanged
#   make localstack         LocalStack in the foreground on port 4566, functions run with .venv

LOCALSTACK_VENV ?= .venv-localstack
SAM_VENV ?= .venv-sam
LOCALSTACK_PYTHON ?= python3
LOCALSTACK_PORT ?= 4566
PROCESS_EXECUTOR := infra/localstack/process_executor
PROCESS_EXECUTOR_FILES := $(PROCESS_EXECUTOR)/pyproject.toml $(wildcard $(PROCESS_EXECUTOR)/src/process_executor/*.py)

.PHONY: setup-localstack localstack

setup-localstack: $(LOCALSTACK_VENV)/.executor $(SAM_VENV)/.installed

$(LOCALSTACK_VENV)/.installed: requirements/localstack.txt
	$(LOCALSTACK_PYTHON) -m venv --clear $(LOCALSTACK_VENV)
	$(LOCALSTACK_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-compile -r requirements/localstack.txt
	@touch $@

$(LOCALSTACK_VENV)/.executor: $(LOCALSTACK_VENV)/.installed $(PROCESS_EXECUTOR_FILES)
	$(LOCALSTACK_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-compile --force-reinstall ./$(PROCESS_EXECUTOR)
	@touch $@

$(SAM_VENV)/.installed: requirements/sam.txt
	$(LOCALSTACK_PYTHON) -m venv --clear $(SAM_VENV)
	$(SAM_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-compile -r requirements/sam.txt
	@touch $@

localstack: setup-localstack
	@pid=$$(infra/localstack/start_localstack.sh $(LOCALSTACK_VENV) .venv $(LOCALSTACK_PORT) .localstack) && \
	trap 'kill $$pid' INT TERM && echo "LocalStack: http://127.0.0.1:$(LOCALSTACK_PORT)  (log: .localstack/localstack.log)" && \
	while kill -0 $$pid 2>/dev/null; do sleep 1; done
