# Everything that is made lies under .batchgauge/, and `make clean` removes it.
PYTHON ?= python3
# The CPU build is enough; on a machine with an accelerator say: make TORCH=torch demo
TORCH ?= torch==2.13.0
HOME_DIR := .batchgauge
BIN := $(HOME_DIR)/venv/bin
TOOLS := $(HOME_DIR)/tools

.PHONY: demo test check docs bench clean

demo: $(HOME_DIR)/.ready $(HOME_DIR)/.tools  ## set up, then run the two example jobs over a month of nights
	$(BIN)/python -m jobs.examples.demo

test: $(HOME_DIR)/.ready $(HOME_DIR)/.tools  ## set up, then run the whole suite against real servers
	$(BIN)/python -m pytest

check: $(HOME_DIR)/.ready  ## format, lint, types, generated documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m jobs.reference --check

docs: $(HOME_DIR)/.ready  ## write the generated parts of the README
	$(BIN)/python -m jobs.reference

bench: $(HOME_DIR)/.ready $(HOME_DIR)/.tools  ## ratios against what people write by hand, measured side by side
	$(BIN)/python -m benchmarks

clean:  ## remove everything that was made
	rm -rf $(HOME_DIR) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and alone: resolved together with the rest it would bring an accelerator build of gigabytes.
$(HOME_DIR)/.ready: pyproject.toml constraints.txt
	@mkdir -p $(HOME_DIR)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(HOME_DIR)/venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The real servers: from PATH, else Debian's packages, unpacked here. What can't be had is said, and the demo goes on.
$(HOME_DIR)/.tools: monitoring/servers.py monitoring/packages.py
	@mkdir -p $(TOOLS)
	@if $(PYTHON) -m monitoring.servers install $(TOOLS); then touch $@; fi
