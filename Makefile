# make demo   certify digits with a small LSTM and a small GRU; results in demo-out/
# make test   linters, type checker, layers, tests
# make shell  a shell in which the command tightverify is found
# make docs   the documentation as a site in site/; warnings are errors
# make wheel-test   the wheel, built and tried in a fresh environment of its own
# make test-newest   the tests in a fresh environment with the newest versions of all dependencies, without constraints.txt;
#                    TESTED=tests/solvers runs some of them
# The first four make the virtual environment .venv first, if it is not there yet. Needs Python 3.11 or later, as $(PYTHON).

PYTHON ?= python3
BIN := .venv/bin
# Tests run side by side, one thread each.
WORKERS ?= auto
TESTS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test check test-slow test-newest gpu shell docs wheel-test clean

demo: .venv/.installed
	$(BIN)/tightverify demo --out demo-out

test: check
	$(TESTS) -n $(WORKERS) --dist worksteal -m "not slow and not gpu"

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-slow: .venv/.installed
	$(TESTS) -m slow

test-newest:
	PYTHON=$(PYTHON) WORKERS=$(WORKERS) .ci/newest $(TESTED)

shell: .venv/.installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/.venv" "$${SHELL:-/bin/sh}"

gpu: .venv/.installed
	$(TESTS) -m gpu

docs: .venv/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheel-test:
	PYTHON=$(PYTHON) .ci/wheel-test

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is not Python 3.11 or later; name one that is: make PYTHON=python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,docs]'
	touch $@

clean:
	rm -rf .venv demo-out site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
