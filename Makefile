# `make demo` is the main job, `make test` is all the tests. Both work from a fresh clone, without root.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CACHE := $(if $(LULL_CACHE),$(LULL_CACHE),$(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/lull)
UV_VERSION := 0.13.9
UV_HOME := $(CACHE)/uv-$(UV_VERSION)
# uv from PATH, else from its package, installed once into the cache.
UV := $(or $(shell command -v uv),$(UV_HOME)/bin/uv)
RUN := $(UV) run --no-sync
DASHBOARDS := manifests/components/monitoring/dashboards

.PHONY: help
help:  ## Show what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

# Debian keeps venv and pip in packages of their own: either will do.
$(UV_HOME)/bin/uv:
	@echo "==> installing uv $(UV_VERSION) into $(UV_HOME)"
	@rm -rf $(UV_HOME)
	@{ python3 -m venv $(UV_HOME) && $(UV_HOME)/bin/pip install --quiet uv==$(UV_VERSION); } \
	|| { rm -rf $(UV_HOME); python3 -m pip install --quiet --target $(UV_HOME) uv==$(UV_VERSION); } || true
	@test -x $@ || { echo "uv could not be installed. Install it (https://docs.astral.sh/uv), or Python's venv" \
	"or pip (Debian: apt install python3-venv), see that PyPI is reachable, and run make again." >&2; exit 1; }

.venv/.synced: pyproject.toml uv.lock | $(UV)
	@$(UV) python find --quiet --system > /dev/null || { echo "Lull needs Python 3.11 or 3.12, and found neither." \
	"Install one (apt install python3.12, or $(UV) python install 3.12) and run make again." >&2; exit 1; }
	@echo "==> installing the Python packages (once; torch is large)"
	$(UV) sync --frozen --all-extras
	@touch $@

.PHONY: tools
tools: .venv/.synced  ## Build Kubernetes, etcd, Prometheus and two stores, and lay out Triton, once, into the cache
	@$(RUN) python -m lull.local.toolchain
	@$(RUN) python -m lull_runtime.backend.install > /dev/null

.PHONY: demo
demo: .venv/.synced  ## The main job: a trained network asleep, awake on request, asleep again
	@$(RUN) lull demo

.PHONY: demo-down
demo-down: .venv/.synced  ## End what `make demo` left running
	@$(RUN) lull local down

.PHONY: check
check: .venv/.synced  ## Format, lint, types, import contracts, generated files
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports --no-cache
	$(RUN) python -m lull.api.crd build/crds > /dev/null
	for file in build/crds/*.yaml; do diff -u crds/$$(basename $$file) $$file || { echo "run make generate"; exit 1; }; done
	$(RUN) python -m lull.dashboards build/dashboards > /dev/null
	diff -ru $(DASHBOARDS) build/dashboards || { echo "run make generate"; exit 1; }

.PHONY: generate
generate: .venv/.synced  ## Write crds/ from the models, and the dashboards
	$(RUN) python -m lull.api.crd crds
	$(RUN) python -m lull.dashboards $(DASHBOARDS)

.PHONY: test
test: check tools  ## All the tests, with coverage
	rm -f .coverage .coverage.*
	$(RUN) coverage run -m pytest tests/unit tests/property tests/fuzz
	$(RUN) coverage combine --quiet --keep
	$(RUN) coverage report --include='operator/lull/policy/*' --fail-under=100
	$(RUN) coverage run -m pytest tests/integration tests/e2e
	$(RUN) coverage combine --quiet --append
	$(RUN) coverage report

.PHONY: soak
soak: tools  ## Storms and fuzzers in their long form
	$(RUN) pytest tests/fuzz --fuzz-seconds 120 --timeout 3600
	$(RUN) pytest tests/e2e --soak --timeout 3600

.PHONY: mutants
mutants: .venv/.synced  ## Break the policy in 400 places, one at a time, and see that a test fails (some ten minutes)
	PYTHONPATH=tests $(RUN) python -m mutants

.PHONY: bench
bench: tools  ## Measure, beside a reference in the same run (PARTS="wake hot_path" for some of it); writes build/bench.json
	PYTHONPATH=tests $(RUN) python -m bench $(PARTS)

.PHONY: clean
clean:  ## Remove what was made in this folder (the cache stays)
	rm -rf build .venv .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
