# Commands for users and developers; they need make and Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
# $(call install,PACKAGES,HOW LONG) says what it does and how long it took; pip shows each package and its progress.
# pip would compile 15,000 files on one core. Some packages have templates that Python cannot compile.
install = @echo "Installing $(1) into $(VENV) ($(2)) …"; start=$$(date +%s); $(PIP) --no-compile --editable '$(1)' \
	&& { $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true; } \
	&& echo "Installed $(1) in $$(($$(date +%s) - start)) s."

# make demo SERVE=0 does not serve the web page; make demo PORT=0 serves it on any free port.
SERVE ?= 1
PORT ?= 8000

.PHONY: demo test suite test-fast lint bench docs screenshots clean

demo: $(VENV)/core.stamp
	$(BIN)/lookalike demo --port $(PORT) $(if $(filter 0,$(SERVE)),--no-serve)

# Lint runs beside the tests.
test: $(VENV)/dev.stamp
	$(MAKE) --jobs 2 lint suite

# All tests, with the coverage of src/lookalike. pyproject.toml has the lowest coverage that passes. There is one process more
# than cores, because tests also wait for other processes; make suite PROCESSES=2 uses two.
# A process computes in one thread: with one for each core in each process, torch takes three times as long.
# Compiled tests are kept even where the environment forbids it: otherwise each process compiles all of them.
# A failed test runs once more, and the summary lists it: on a busy machine, a browser or a server may miss a time limit.
PROCESSES ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

suite: $(VENV)/dev.stamp
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder --reruns 1 --cov

# The tests that are not marked slow, without lint and coverage: less than three minutes.
test-fast: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m "not slow"

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Takes half an hour. Measures on the images in data/cifar10 if that folder exists, otherwise on the toy shop.
# make bench SECTIONS="single batch" runs two sections.
SECTIONS ?=
DATA ?= $(wildcard data/cifar10)

bench: $(VENV)/bench.stamp $(VENV)-fastdup/stamp
	$(BIN)/python benchmarks/run.py $(SECTIONS) $(if $(DATA),--data $(DATA))

# Write the generated pages.
docs: $(VENV)/dev.stamp
	$(BIN)/python docs/bad_input.py
	$(BIN)/python docs/cli_reference.py
	$(BIN)/python docs/python_reference.py

screenshots: $(VENV)/dev.stamp $(VENV)/core.stamp
	$(BIN)/lookalike demo --no-serve
	$(BIN)/python docs/screenshots.py demo/shop.lookalike demo/photos/mug/mug-0007.jpg

clean:
	rm -rf $(VENV) $(VENV)-fastdup benchmarks/cache demo build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "lookalike needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	@echo "Making the environment $(VENV) …"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: pyproject.toml | $(VENV)/bin/python
	$(call install,.,a minute or two at the first time)
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(call install,.[dev],a few minutes at the first time)
	@touch $@ $(VENV)/core.stamp

$(VENV)/bench.stamp: pyproject.toml | $(VENV)/bin/python
	$(call install,.[bench],a few minutes at the first time)
	@touch $@ $(VENV)/core.stamp

# fastdup needs old versions of Pillow and NumPy, so it has an environment of its own. If it cannot be installed, only its
# row of the results is missing.
$(VENV)-fastdup/stamp: | $(VENV)/bin/python
	$(BIN)/python -m venv $(VENV)-fastdup
	-$(VENV)-fastdup/bin/python -m pip install --disable-pip-version-check fastdup
	@touch $@
