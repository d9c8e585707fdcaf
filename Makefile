# The few commands a person needs. Each makes what it is missing; Python >= 3.11 and make are all they assume.
.PHONY: help demo test check backends test-backends dashboards interop bench clean

# The first interpreter that really runs, is new enough and can make an environment.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/spanflow

help:            ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

demo: .venv/demo ## drive the booking agent with 200 simulated users and check what was recorded
	$(BIN)/spanflow demo $(ARGS)

test: .venv/dev  ## run the tests
	$(PYTEST) -n logical --dist loadfile --max-worker-restart 0 -m "not backends and not interop" $(ARGS)

check: .venv/dev ## lint, types, layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(PYTEST) -q tests/test_layout.py

backends: .venv/dev ## bring the servers, once: Collector, Jaeger, Tempo, Prometheus, Phoenix; find or install PostgreSQL
	PYTHON=$(BIN)/python collector-config/build "$(CACHE)/backends"
	$(BIN)/python tests/backends/postgres.py
	$(BIN)/python tests/backends/grafana_types.py "$(CACHE)/backends"

test-backends: backends ## run the agents against those servers, and read from them what they were told
	$(PYTEST) -m backends $(ARGS)

dashboards: .venv/dev ## write grafana-dashboards/*.json anew from their source
	$(BIN)/python grafana-dashboards/source

interop: .venv/dev ## run beside other people's instrumentors, and note what was seen in docs/interop.md
	$(PYTEST) -m interop --timeout=900 $(ARGS)
	$(BIN)/python interop/matrix.py "$(CACHE)/interop/seen" docs/interop.md

bench: .venv/dev ## measure what it costs (ARGS=--quick for a short one)
	$(BIN)/python -m bench $(ARGS)

clean:           ## remove the environment
	rm -rf .venv

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 with venv found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv

# A stamp a set of dependencies: made again only when the project's own list changes.
.venv/demo: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[langgraph]'
	@touch $@

.venv/dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ .venv/demo
