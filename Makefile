# Everything here works on a fresh clone; `make setup` comes first by itself and is instant afterwards.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python

.PHONY: help setup demo test check bench bench-peers profile soak clean

help:
	@echo "make demo    watch a workflow with a real language model, and its coordinator killed"
	@echo "make test    everything that must hold before a change is accepted"
	@echo "make check   only the fast, static part of it"
	@echo "make setup   the environment in .venv (the others call it)"
	@echo "make bench   the measurements behind the figures we give; make bench-peers beside other systems"
	@echo "make profile where the time of a benchmark goes, as a flame graph; WORKLOAD=chain10"
	@echo "make soak    the slow tests in full; with MINUTES=60 the fault campaign instead"
	@echo "make clean   remove the environment, the data folder and every cache"

setup:
	@.ci/setup

demo: setup
	@$(PY) examples/demo.py

test: setup
	@.ci/servers
	@$(PY) .ci/test.py

check: setup
	@$(PY) .ci/test.py --static

bench: setup
	@$(PY) -m benchmarks.suite

bench-peers: setup
	@$(PY) -m benchmarks.peers.environments
	@$(PY) -m benchmarks.suite --peers

profile: export WORKLOAD := $(WORKLOAD)
profile: setup
	@$(PY) -m benchmarks.suite.profile --workload "$${WORKLOAD:-chain10}"

soak: export MINUTES := $(MINUTES)
soak: setup
	@if [ -n "$${MINUTES:-}" ]; then \
	  $(PY) -m tests.campaign --minutes "$$MINUTES" --builds --report docs/guarantees.md; \
	else .ci/servers; AGENTFLOW_SOAK=1 $(PY) .ci/test.py; fi

clean:
	@.ci/clean
