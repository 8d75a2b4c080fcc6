# Every target does its own set-up: `make demo` and `make test` work in a fresh clone.
# Needs: make, gcc, python3 with its headers and venv (Debian: python3-dev python3-venv gcc make).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

# What is installed is remembered by empty stamp files inside the environment; removing it removes them.
MADE    := $(VENV)/.made
RUNTIME := $(VENV)/.runtime
CORE    := $(VENV)/.core
DEV     := $(VENV)/.dev
PEERS   := $(VENV)/.peers

CORE_SOURCES := $(shell find cython_core \( -name '*.py[x]' -o -name '*.px[id]' -o -name '*.[hc]' -o -name build_ext.py \) \
                  -not -name '_core.c' 2>/dev/null)
EDITABLE := --no-build-isolation --config-settings editable_mode=compat -e
define install
	$(PIP) install 'setuptools>=80' 'Cython>=3.1,<4'
	$(PIP) install $(EDITABLE) '.[$(1)]'
endef

# Where `make run` keeps its configuration and data.
CONFIG ?= var/spinrt.yaml
# What `make bench` runs.
BENCH  ?= all

# A path may hold any character, quotes too: recipes read it from the environment, where no shell takes it apart.
export MAIL

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup demo run test test-clients crash-test mirror-campaign crash-campaign undo-campaign load-campaign hostile campaign check format bench build-extensions clean distclean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

setup: $(DEV) $(CORE) ## create .venv with everything for development, build the core in place

demo: $(RUNTIME) $(CORE) ## mail through three sandboxed extensions, end to end (MAIL=path: your own mail)
	@$(BIN)/python -m spinrt demo $${MAIL:+--mail "$$MAIL"}

run: $(RUNTIME) $(CORE) $(CONFIG) ## serve in the foreground with CONFIG=var/spinrt.yaml; Ctrl-C drains and stops
	@$(BIN)/python -m spinrt serve --config '$(CONFIG)'

test: $(DEV) $(CORE) ## run all tests that need nothing but .venv (TESTS=path: some of them)
	$(BIN)/python -m pytest $(TESTS)

test-clients: $(DEV) $(CORE) ## drive Debian's mail clients against a server (installs them: needs root)
	.ci/install-debian-clients
	$(BIN)/python -m pytest -m clients --run-clients tests/clients

crash-test: $(DEV) $(CORE) ## kill -9 the server KILLS times (100) while mail comes in (SEED=n replays)
	$(BIN)/python -m tests.mail.crash_campaign --kills $(or $(KILLS),100) $(if $(SEED),--seed $(SEED))

crash-campaign: $(DEV) $(CORE) ## lose power at every step of a workload, and CRASHES times (10000) at random (SEED=n replays)
	$(BIN)/python -m tests.mail.power.campaign --crashes $(or $(CRASHES),10000) $(if $(SEED),--seed $(SEED))

mirror-campaign: $(DEV) $(CORE) ## kill -9 source or mirror KILLS times (100) during updates; what the mirror has must be whole (SEED=n replays)
	$(BIN)/python -m tests.mail.mirror_campaign --kills $(or $(KILLS),100) $(if $(SEED),--seed $(SEED))

hostile: $(DEV) $(CORE) ## try all hostile guests for ROUNDS (1000) rounds, memory must stay flat (SEED=n replays)
	$(BIN)/python -m tests.hostile.campaign --rounds $(or $(ROUNDS),1000) $(if $(SEED),--seed $(SEED))

load-campaign: $(DEV) $(CORE) ## load and unload extensions LOADS times (200000), memory and mappings must stay flat
	$(BIN)/python -m tests.runtime.load_campaign --count $(or $(LOADS),200000)

undo-campaign: $(DEV) $(CORE) ## random modules with an undo log: SEEDS of them (1000) from FIRST on, a fault before each change
	$(BIN)/python -m tests.sandbox.undo_campaign --seeds $(or $(SEEDS),1000) --first $(or $(FIRST),1000)

campaign: $(DEV) $(CORE) ## make every handler of every shipped extension fail wherever it can, millions of times (SEED=n, INPUTS=n)
	$(BIN)/python -m tests.check.full_campaign --inputs $(or $(INPUTS),400) --seed $(or $(SEED),0)

check: $(DEV) $(CORE) ## ruff, mypy --strict, and the structure tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/python -m pytest tests/meta

format: $(DEV) ## let ruff format and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV) $(CORE) $(if $(filter all,$(BENCH)),$(PEERS)) ## run all benchmarks, write build/bench/report.html (QUICK=1, BENCH=mail: that one, MAIL=path, ARGS)
	@$(BIN)/python -m spinrt bench $(BENCH) $(if $(QUICK),--quick) $(ARGS) \
	  $(if $(filter all ipc filters storage,$(BENCH)),$${MAIL:+--mail "$$MAIL"})

build-extensions: $(DEV) $(CORE) ## compile extensions/* to WebAssembly
	$(BIN)/python -m spinrt build

clean: ## remove everything built, keep .venv
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .zig-cache
	rm -f spinrt/_core*.so cython_core/_core.c cython_core/*.html $(CORE)
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv too (never var/, which may hold mail)
	rm -rf $(VENV)

$(CONFIG): | $(RUNTIME)
	$(BIN)/python -m spinrt config init --demo-account '$(CONFIG)'

$(MADE):
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v < (3, 15) or sys.exit("spinrt needs Python 3.11 to 3.14, $(PYTHON) is %d.%d: use make PYTHON=..." % v)'
	@echo 'setting up $(VENV): this takes about a minute the first time'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Installing compiles the core: what has all extras installs once, and has those of the runtime too.
$(RUNTIME): pyproject.toml | $(MADE)
	$(call install,demo)
	@touch $@

$(DEV): pyproject.toml | $(MADE)
	$(call install,dev)
	@touch $(RUNTIME) $@

$(PEERS): benchmarks/install-peers | $(MADE)
	@if benchmarks/install-peers; then touch $@; else echo 'bench: goes on without the servers that are missing' >&2; fi

# Installing built the core already; build_ext then finds nothing to do, and later compiles what changed.
$(CORE): $(CORE_SOURCES) | $(RUNTIME)
	$(BIN)/python -W ignore -c 'import setuptools; setuptools.setup()' --quiet build_ext --inplace
	@touch $@
