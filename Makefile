# Every target sets up what it needs, in .venv, and is quick the second time: the stamps in .venv are named after a
# checksum of the files that decide what is installed.
#
#   make demo     distils scikit-learn's digits and evaluates the result; core dependencies only
#   make test     lint, types and the fast suite: minutes       make test-slow    all other tests
#   make setup    the full pinned environment
#   make lint     ruff and pyright          make bench    the speed figures
#   make docs     API pages into site/      make clean    removes .venv and site/
#
# Choose an interpreter with `make PYTHON=/path/to/python3.12 ...`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint bench docs clean

VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet --quiet install
KEY := $(shell cat requirements.txt pyproject.toml | cksum | tr ' ' '-')
CORE := $(VENV)/core-$(KEY)
FULL := $(VENV)/full-$(KEY)
PYTEST_ARGS ?= -n 2 --dist worksteal

# The first of these that runs, is new enough and can make environments (a pyenv shim may stand for nothing).
CANDIDATES := python3.12 $(wildcard $(HOME)/.pyenv/versions/3.12*/bin/python) python3.13 python3.11 python3 python
SUITABLE := import sys, venv, ensurepip; assert sys.version_info >= (3, 11)

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^The first of these/,$$d'

setup: $(FULL)

$(RUN):
	@python="$(PYTHON)"; \
	for candidate in $(CANDIDATES); do \
	    if [ -z "$$python" ] && "$$candidate" -c '$(SUITABLE)' >/dev/null 2>&1; then python="$$candidate"; fi; \
	done; \
	if [ -z "$$python" ] || ! "$$python" -c '$(SUITABLE)'; then \
	    echo "Python 3.11 or newer with the venv module is needed: install it, or name one: make PYTHON=/path/to/python3.12"; \
	    exit 2; \
	fi; \
	echo "Setting up $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

# The core dependencies alone, at the versions that requirements.txt pins.
$(CORE): | $(RUN)
	@echo "Installing the core dependencies into $(VENV) (a few minutes the first time)"
	@$(PIP) --constraint requirements.txt hatchling editables
	@$(PIP) --constraint requirements.txt --no-build-isolation --editable .
	@rm -f $(VENV)/core-*; touch $@

# Everything. neural-tangents comes without its declared dependencies, which include TensorFlow.
$(FULL): | $(RUN)
	@echo "Installing the full pinned environment into $(VENV) (a few minutes the first time)"
	@$(PIP) --requirement requirements.txt
	@$(PIP) --no-deps neural-tangents==0.6.5
	@$(PIP) --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/core-* $(VENV)/full-*; touch $@ $(CORE)

demo: $(CORE)
	@$(RUN) distill_dataset.py
	@$(RUN) eval.py

# The tests run even if lint fails, so that one run tells everything; pytest's summary is the last thing printed.
test: $(FULL)
	@lint=0; $(MAKE) --no-print-directory lint || lint=$$?; \
	$(RUN) -m pytest $(PYTEST_ARGS) && exit $$lint

test-slow: $(FULL)
	@$(RUN) -m pytest $(PYTEST_ARGS) -m slow

lint: $(FULL)
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/pyright --pythonpath $(RUN)

bench: $(FULL)
	@GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(RUN) -m benchmarks.rcig_step

docs: $(FULL)
	@$(VENV)/bin/pdoc --docformat google --math --output-directory site jaxdd
	@echo "Open site/index.html; docs/architecture.md explains the house."

clean:
	rm -rf $(VENV) site
