# LocalStack without containers, for the end-to-end tests. Included by the Makefile.
# LocalStack and the SAM CLI get environments of their own, since their pins contradict ours.

LOCALSTACK_VENV ?= .venv-localstack
SAM_VENV ?= .venv-sam
PYTHON ?= python3
LOCALSTACK_PORT ?= 4566
PROCESS_EXECUTOR := infra/localstack/process_executor
PROCESS_EXECUTOR_FILES := $(PROCESS_EXECUTOR)/pyproject.toml $(wildcard $(PROCESS_EXECUTOR)/src/process_executor/*.py)

.PHONY: setup-localstack localstack

setup-localstack: $(LOCALSTACK_VENV)/.executor $(SAM_VENV)/.installed ## Make the environments of LocalStack and the SAM CLI

$(LOCALSTACK_VENV)/.installed: requirements/localstack.txt
	$(PYTHON) -m venv --clear $(LOCALSTACK_VENV)
	$(LOCALSTACK_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-compile -r requirements/localstack.txt
	@touch $@

$(LOCALSTACK_VENV)/.executor: $(LOCALSTACK_VENV)/.installed $(PROCESS_EXECUTOR_FILES)
	$(LOCALSTACK_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-compile --force-reinstall ./$(PROCESS_EXECUTOR)
	@touch $@

$(SAM_VENV)/.installed: requirements/sam.txt
	$(PYTHON) -m venv --clear $(SAM_VENV)
	$(SAM_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-compile -r requirements/sam.txt
	@touch $@

localstack: setup-localstack ## LocalStack on port 4566, functions as processes of .venv
	@pid=$$(infra/localstack/start_localstack.sh $(LOCALSTACK_VENV) .venv $(LOCALSTACK_PORT) .localstack) && \
	trap 'kill $$pid' INT TERM && echo "LocalStack: http://127.0.0.1:$(LOCALSTACK_PORT)  (log: .localstack/localstack.log)" && \
	while kill -0 $$pid 2>/dev/null; do sleep 1; done
