# Ours beside the servers of others. Included by the Makefile.
# Each peer has an environment of its own: nothing of ours imports it (docs/adr/0039-side-by-side.md).

# aegra and langhost need Python 3.12: the one on the PATH, or a command that you name.
PYTHON312 ?= $(shell for python in python3.12 $(PYTHON); do $$python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null && echo $$python && break; done)
AEGRA_VENV ?= .venv-bench-aegra
LANGHOST_VENV ?= .venv-bench-langhost

.PHONY: bench bench-peers

bench: setup ## Speed beside the servers of others, of those that are installed (ARGS="--rounds 1 --only wait,drain" for a quick look)
	$(BIN)/python -m bench --reference $(COMPAT_VENV)/bin/langgraph --aegra $(AEGRA_VENV)/bin/aegra \
	--langhost $(LANGHOST_VENV)/bin/langhost $(ARGS)

bench-peers: setup ## Install the servers that `make bench` compares with, each in an environment of its own
	-@$(MAKE) --no-print-directory $(COMPAT_VENV)/.installed
ifeq ($(strip $(PYTHON312)),)
	@echo "No Python 3.12 found: aegra and langhost are left out. Name one: make bench-peers PYTHON312=/path/to/python3.12"
else
	-@$(MAKE) --no-print-directory --keep-going $(AEGRA_VENV)/.installed $(LANGHOST_VENV)/.installed PYTHON312=$(PYTHON312)
endif

$(AEGRA_VENV)/.installed: requirements/bench-aegra.txt
	$(PYTHON312) -m venv --clear $(AEGRA_VENV)
	$(AEGRA_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r requirements/bench-aegra.txt
	@touch $@

$(LANGHOST_VENV)/.installed: requirements/bench-langhost.txt
	$(PYTHON312) -m venv --clear $(LANGHOST_VENV)
	$(LANGHOST_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r requirements/bench-langhost.txt
	@touch $@
