# The official server beside ours, asked the same. Included by the Makefile.
# Its environment is apart: nothing of ours imports it (docs/adr/0002-dependencies.md).

COMPAT_VENV ?= .venv-compat
COMPAT := tests/contract/differential

.PHONY: compat

$(COMPAT_VENV)/.installed: requirements/compat.txt
	$(PYTHON) -m venv --clear $(COMPAT_VENV)
	$(COMPAT_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r requirements/compat.txt
	@touch $@

compat: setup $(COMPAT_VENV)/.installed ## Ask the official server and ours the same (RECORD=1 keeps its answers)
	$(BIN)/python $(COMPAT)/live.py $(COMPAT_VENV)/bin/langgraph $(if $(RECORD),--record)
