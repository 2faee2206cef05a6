# mkisod: set up, try, check, test. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help venv demo demo-web test check docs deb bench soak pin packages clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 16

venv: $(READY) ## set up .venv with everything pinned in requirements*.txt

# Begun anew whenever a pin changes, so that nothing unpinned is left in it. setuptools comes first, by hash, since it builds the one
# dependency that ships no wheel, and the project itself; that is why build isolation, which fetches unpinned, is off.
$(READY): pyproject.toml requirements-build.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mkisod needs Python 3.11 or later. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || \
	  { echo "$(PYTHON) cannot make virtual environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/pip install -qq --require-hashes -r requirements-build.txt
	$(BIN)/pip install -qq --require-hashes --no-build-isolation -r requirements-dev.txt
	$(BIN)/pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## retrieve a phantom patient from a small PACS and make a disc
	$(BIN)/mkisod demo

demo-web: $(READY) ## the example web page, with that PACS behind it; PORT=8080 chooses the port
	@$(BIN)/python -m mkisod.demo.web --root clients/php/examples/web $(if $(PORT),--port $(PORT))

# tests/system has the machine to itself: it comes after the rest, and one test at a time.
test: $(READY) packages ## run the linters and all tests (as root: installs the Debian packages they use)
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore=tests/system
	@if [ -d tests/system ]; then set -x; $(BIN)/python -m pytest tests/system; fi

packages: # what the tests take from Debian; tests/debian-packages.txt has the list
	@sh tests/install-debian-packages.sh

check: $(READY) ## run ruff, mypy and the import contracts alone
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY) ## draw what the documents, manual pages and the completion take from the code
	$(BIN)/python docs/draw.py

deb: $(READY) ## build dist/mkisod_X_all.deb for Debian 12 and 13
	PIP=$(BIN)/pip packaging/build-deb.sh dist

bench: $(READY) packages ## compare with other programs in the same run, every bench/*/ in turn
	@set -ex; for folder in $(dir $(wildcard bench/*/__main__.py)); do $(BIN)/python -m bench.$$(basename $$folder); done

soak: $(READY) packages ## run the tests that take hours
	$(BIN)/python -m pytest -m soak

# From the public registry alone, whatever this machine's pip is set up to use besides: other builds of a package have other hashes.
PIN := env -u PIP_INDEX_URL -u PIP_EXTRA_INDEX_URL -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null $(BIN)/pip-compile --quiet \
	--upgrade --generate-hashes --strip-extras --allow-unsafe --no-header --no-emit-options --no-emit-index-url --no-emit-find-links

pin: $(READY) ## pin the newest versions that pyproject.toml allows
	$(PIN) --build-deps-for editable --only-build-deps -o requirements-build.txt pyproject.toml
	$(PIN) -o requirements.txt pyproject.toml
	$(PIN) --extra dev -c requirements-build.txt -c requirements.txt -o requirements-dev.txt pyproject.toml

clean: ## remove what the targets above have made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find mkisod tests -name __pycache__ -type d -prune -exec rm -rf {} +
