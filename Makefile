# The two commands of the README, and what they are made of. Nothing is needed but make and Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# make demo SERVE=0 stops before the web page is served; make demo PORT=0 serves it on any free port.
SERVE ?= 1
PORT ?= 8000

.PHONY: demo test lint bench screenshots clean

demo: $(VENV)/core.stamp
	$(BIN)/lookalike demo --port $(PORT) $(if $(filter 0,$(SERVE)),--no-serve)

test: $(VENV)/dev.stamp lint
	$(BIN)/python -m pytest

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Half an hour. With data/cifar10 there, of its pictures; else of the toy shop's. make bench SECTIONS="single batch" runs some.
SECTIONS ?=
DATA ?= $(wildcard data/cifar10)

bench: $(VENV)/bench.stamp $(VENV)-fastdup/stamp
	$(BIN)/python benchmarks/run.py $(SECTIONS) $(if $(DATA),--data $(DATA))

screenshots: $(VENV)/dev.stamp $(VENV)/core.stamp
	$(BIN)/lookalike demo --no-serve
	$(BIN)/python docs/screenshots.py demo/shop.lookalike demo/photos/mug/mug-0007.jpg

clean:
	rm -rf $(VENV) $(VENV)-fastdup benchmarks/cache demo build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "lookalike needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/core.stamp

$(VENV)/bench.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[bench]'
	touch $@ $(VENV)/core.stamp

# fastdup asks for old versions of Pillow and NumPy. Where it cannot be installed its row is missing, and nothing else.
$(VENV)-fastdup/stamp: | $(VENV)/bin/python
	$(BIN)/python -m venv $(VENV)-fastdup
	-$(VENV)-fastdup/bin/python -m pip install --quiet --disable-pip-version-check fastdup
	touch $@
