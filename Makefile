# Two commands: `make` installs and reproduces the sample profile, `make test` installs and passes the tests.

# A Python of 3.11 or newer, 3.11 first because constraints.txt is solved for it; another: make PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
PROFILE ?= sample
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: all install reproduce test tokenizer parity bench docs export clean readme constraints wheel help
.DEFAULT_GOAL := all

all: reproduce ## install, then draw every table and figure of PROFILE (sample) that is out of date

install: $(STAMP) ## the environment in .venv, again only when pyproject.toml or constraints.txt changed

$(STAMP): pyproject.toml constraints.txt
	@python='$(PYTHON)'; test -n "$$python" || { echo "LVM-Lite needs Python 3.11 or newer and found none; install one, or say: make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "LVM-Lite needs Python 3.11 or newer; $$python is not" >&2; exit 1; }; \
	test -x $(BIN)/pip || "$$python" -m venv $(VENV) || { echo "$$python cannot make a virtual environment; on Debian and Ubuntu install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt uv
	VIRTUAL_ENV='$(CURDIR)/$(VENV)' $(BIN)/uv pip install --quiet -c constraints.txt -e ".[lab,dev]"
	@touch $@

reproduce: $(STAMP) ## the figures of PROFILE, only what changed
	$(BIN)/lvm-lite reproduce --profile $(PROFILE)

test: $(STAMP) ## every notebook and the tests of the repository, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadgroup

tokenizer: $(STAMP) ## train the sample tokenizer anew into data/tokenizer: an hour
	@mkdir -p figures/runs
	$(BIN)/papermill nbs/train/tokenizer.ipynb figures/runs/tokenizer.ipynb -p train True

# Peers live in an environment of their own, made by plain pip; the checkout is on the path there.
PEERS := .venv-parity
$(PEERS)/installed: tests/parity/requirements.txt
	test -x $(PEERS)/bin/pip || "$(PYTHON)" -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

parity: $(PEERS)/installed ## compare with diffusers and transformers
	PYTHONPATH='$(CURDIR)' $(PEERS)/bin/python -m pytest tests/parity -s

bench: $(PEERS)/installed ## measure beside diffusers and transformers, on a quiet machine
	@mkdir -p figures/runs
	PATH='$(CURDIR)/$(PEERS)/bin':$$PATH PYTHONPATH='$(CURDIR)' papermill --kernel python3 nbs/bench/tokenizer.ipynb figures/runs/bench_tokenizer.ipynb -p measure True
	PATH='$(CURDIR)/$(PEERS)/bin':$$PATH PYTHONPATH='$(CURDIR)' papermill --kernel python3 nbs/bench/training.ipynb figures/runs/bench_training.ipynb -p measure True

docs: $(STAMP) ## the site in _site/html, from the notebooks as they stand
	$(BIN)/sphinx-build -W --keep-going -q -c docs . _site/html

export: $(STAMP) ## write lvm_lite/ from nbs/
	$(BIN)/nbdev-export

clean: $(STAMP) ## strip metadata that only makes conflicts from the notebooks
	$(BIN)/nbdev-clean

readme: $(STAMP) ## write README.md from nbs/index.ipynb
	$(BIN)/python tests/readme.py

wheel: $(STAMP) ## build dist/*.whl
	$(BIN)/python -m build --wheel --no-isolation

constraints: $(STAMP) ## solve the environment anew (to be committed): exact versions, no hosts
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links --extra lab --extra dev pyproject.toml -o constraints.txt

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
