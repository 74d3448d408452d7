# make demo, make test: all that a newcomer needs. Each makes .venv when it is missing or older than its pins.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PINS := pyproject.toml constraints.txt infra/check_system.sh
SERVE ?= 1
LAKE ?= ./lake

SECONDS ?= 600
EXTRAS ?= all

.PHONY: demo test lint bench chaos docs faults fuzz image-check sample-lake clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo    build ./lake from real photographs, sweep it, fit two small systems, serve it (SERVE=0: stop before)"
	@echo "make test    the whole test suite, as CI runs it"
	@echo "make lint    ruff and mypy"
	@echo "make bench   benchmarks; prints ratios against a peer or a physical limit (make .venv-peers: against others, too)"
	@echo "make faults  fail every call to the storage, flip every byte of a small lake: some minutes"
	@echo "make chaos   lose nodes, commands, heads, storage and clocks; what is in the lake then, into docs/reliability.md: some minutes"
	@echo "make fuzz    damaged files at the importers' borders, for SECONDS=600"
	@echo "make image-check   the install steps of the container image, in an environment of their own (EXTRAS=all)"
	@echo "make sample-lake DATA=path   every folder of a collection of real samples as a data set, with a table of speeds"
	@echo "make docs    regenerate the tables, figures and command reference of the documentation"
	@echo "make clean   remove .venv, ./lake and caches"

# what the main job needs: no front end
$(VENV)/.demo: $(PINS)
	@sh infra/check_system.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(PIP) setuptools wheel
	$(PIP) --no-build-isolation -e '.[demo]'
	@touch $@

# the front end beside it
$(VENV)/.serve: $(VENV)/.demo
	$(PIP) --no-build-isolation -e '.[demo,serve]'
	@touch $@

# all extras and the tools of development
$(VENV)/.all: $(VENV)/.demo
	$(PIP) --no-build-isolation -e '.[all,dev]'
	@touch $@

demo: $(VENV)/$(if $(filter 0,$(SERVE)),.demo,.serve)
	$(BIN)/sensorium --lake $(LAKE) demo $(if $(filter 0,$(SERVE)),--no-serve)

test: $(VENV)/.all
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	sh infra/mypy.sh $(BIN)/mypy

bench: $(VENV)/.all
	PEERS=$(wildcard .venv-peers/bin/python) $(BIN)/python -m tests.benchmarks

# other ways to keep samples, which bench measures beside ours if they are there
.venv-peers:
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 datasets pylance webdataset deeplake

faults: $(VENV)/.all
	SENSORIUM_ALL_FAULTS=1 $(BIN)/python -m pytest -n 2 tests/catalog/test_faults.py

chaos: $(VENV)/.all
	$(BIN)/python -m tests.chaos $(FAULTS)

fuzz: $(VENV)/.all
	$(BIN)/python -m tests.catalog.fuzz --seconds $(SECONDS)

image-check: $(VENV)/.all
	SENSORIUM_IMAGE_EXTRAS=$(EXTRAS) $(BIN)/python -m pytest tests/infra/test_image.py

sample-lake: $(VENV)/.all
	$(BIN)/python -m tests.benchmarks.sample_lake $(DATA) --lake $(LAKE)

docs: $(VENV)/.all
	$(BIN)/python docs/regenerate.py

clean:
	rm -rf $(VENV) .venv-peers lake build dist *.egg-info .mypy_cache .mypy_root .pytest_cache .ruff_cache .hypothesis
