# What a person types. `make` alone lists the targets.
#
#   PYTHON=python3.12   the interpreter that .venv is made with (3.10 or newer); remove .venv to change it
#   TORCH_INDEX_URL=    where torch comes from; on Linux the usual index brings the CUDA build (several GB), and
#                       the CPU index that PyTorch's own start page names, the small one. Empty: as pip is configured.
#   TESTARGS=           more arguments for pytest, such as TESTARGS='-k ingest' or TESTARGS='-m slow'
#   BENCHARGS=          more arguments for every benchmark, such as BENCHARGS='--source my-documents'

PYTHON ?= python3
TORCH_INDEX_URL ?=
TESTARGS ?=
BENCHARGS ?=

BIN := .venv/bin
# The stamp's name carries a checksum of what decides the installation: a change of either file installs again, and a
# checkout that only touches them does not.
STAMP := .venv/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1)
OFFLINE := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
BENCHES := bench/build.py

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## build a model from the shipped sample documents and compare it before and after
	$(OFFLINE) $(BIN)/tinyforge demo

test: $(STAMP) ## run the fast tests (all that need no GPU and no browser)
	$(OFFLINE) $(BIN)/python -m pytest -q -n logical --maxprocesses 8 --dist loadfile \
	  -m "not slow and not gpu and not browser" $(TESTARGS)

check: $(STAMP) ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## measure speed and size against the targets; writes bench/results/*.json
	@status=0; for script in $(BENCHES); do \
	  echo "== $$script"; $(OFFLINE) $(BIN)/python $$script $(BENCHARGS) || status=$$?; \
	done; exit $$status

docs: $(STAMP) ## write the reference, the tables, the notebooks and the README's picture anew, and build the site into site/
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_tables.py
	$(BIN)/python docs/make_notebooks.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q
	$(OFFLINE) $(BIN)/python docs/make_picture.py

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "TinyForge needs Python 3.10 or newer; '$(PYTHON)' is missing or older. Say: make PYTHON=python3.12" >&2; exit 1; }
	@rm -f .venv/.installed-*
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) \
	  "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
