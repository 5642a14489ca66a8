# Everything that is made lies under .batchgauge/, and `make clean` removes it.
PYTHON ?= python3
# The CPU build is enough; on a machine with an accelerator say: make TORCH=torch demo
TORCH ?= torch==2.13.0
HOME_DIR := .batchgauge
BIN := $(HOME_DIR)/venv/bin
TOOLS := $(HOME_DIR)/tools
# Of Debian: the servers that `make test-next` tests with.
SUITE ?= forky
# Many tests wait for servers and processes: three at a time keep two cores busy. A file's tests stay together, as they
# share what is dear to set up; files in order, as the longest tests are in the first ones. One after the other: TOGETHER=
TOGETHER ?= --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-next soak audit check docs bench clean

demo: $(HOME_DIR)/.ready $(HOME_DIR)/.tools  ## set up, then run the two example jobs over a month of nights
	$(BIN)/python -m jobs.examples.demo

test: $(HOME_DIR)/.ready $(HOME_DIR)/.tools $(HOME_DIR)/.browser $(HOME_DIR)/.postgresql  ## set up, then run the whole suite against real servers
	$(BIN)/python -m pytest $(TOGETHER)

test-next: $(HOME_DIR)/.ready $(HOME_DIR)/.tools-$(SUITE) $(HOME_DIR)/.browser $(HOME_DIR)/.postgresql  ## the same suite against Debian's newer servers
	$(TOOLS)-$(SUITE)/root/usr/bin/prometheus --version
	BATCHGAUGE_TOOLS=$(CURDIR)/$(TOOLS)-$(SUITE) $(BIN)/python -m pytest $(TOGETHER)

SEED ?= 20261126

soak: $(HOME_DIR)/.ready $(HOME_DIR)/.tools $(HOME_DIR)/.postgresql  ## the long form of the fault suite, with a table at its end; SEED=… repeats one
	$(BIN)/python -m pytest tests/faults --soak --seed $(SEED)

audit:  ## the pinned set against published advisories; needs the network
	@test -x $(HOME_DIR)/audit/bin/pip-audit || { $(PYTHON) -m venv $(HOME_DIR)/audit && $(HOME_DIR)/audit/bin/pip install --quiet pip-audit; }
	$(HOME_DIR)/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

check: $(HOME_DIR)/.ready  ## format, lint, types, generated documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m jobs.reference --check
	$(BIN)/python -m dashboards.build --diff

docs: $(HOME_DIR)/.ready  ## write what is generated: parts of the README, crontab.example, the dashboards
	$(BIN)/python -m jobs.reference
	$(BIN)/python -m jobs.crontab > crontab.example
	$(BIN)/python -m dashboards.build

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

INSTALLER := $(addprefix monitoring/,servers.py packages.py apt.py unpacked.py)

# The real servers: from PATH, else Debian's packages, unpacked here. What can't be had is said, and the demo goes on.
$(HOME_DIR)/.tools: $(INSTALLER)
	@mkdir -p $(TOOLS)
	@if $(PYTHON) -m monitoring.servers install $(TOOLS); then touch $@; fi

# The browser that tests look at pages with, likewise. Where it can't be had, those tests fail and say what to do.
$(HOME_DIR)/.browser: $(INSTALLER) | $(HOME_DIR)/.tools
	@mkdir -p $(TOOLS)
	@if $(PYTHON) -m monitoring.servers install $(TOOLS) chromium; then touch $@; fi

# The database that may hold the ledger, likewise.
$(HOME_DIR)/.postgresql: $(INSTALLER) | $(HOME_DIR)/.tools
	@mkdir -p $(TOOLS)
	@if $(PYTHON) -m monitoring.servers install $(TOOLS) postgresql; then touch $@; fi

$(HOME_DIR)/.tools-$(SUITE): $(INSTALLER)
	@mkdir -p $(TOOLS)-$(SUITE)
	@$(PYTHON) -m monitoring.servers install $(TOOLS)-$(SUITE) --suite $(SUITE)
	@touch $@
