# Two commands: `make` installs and reproduces the sample profile, `make test` installs and passes the tests.

# A Python of 3.11 or newer, 3.11 first because constraints.txt is solved for it; another: make PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
PROFILE ?= sample
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: all install reproduce test tokenizer train-sample budgets budget proofs interruptions browser parity parity-7b bench reader results claims memorisation guides docs export clean readme constraints wheel help
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

# Two steps at a time on a CPU: a notebook starts and compiles on one core. An accelerator belongs to one step.
JOBS ?= $(if $(filter sample,$(PROFILE)),2,1)
reproduce: $(STAMP) ## the figures of PROFILE, only what changed
	JAX_COMPILATION_CACHE_DIR='$(CURDIR)/runs/compiled' $(BIN)/lvm-lite reproduce --profile $(PROFILE) --jobs $(JOBS) # one notebook compiles for all: a third of a figure's time

test: $(STAMP) ## every numbered notebook and the tests of the repository, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadgroup

tokenizer: $(STAMP) ## train the sample tokenizer into data/tokenizer (anew: without runs/sample/tokenizer): an hour, and the Llamas must follow
	@mkdir -p figures/runs
	$(BIN)/papermill nbs/train/tokenizer.ipynb figures/runs/tokenizer.ipynb -p train True

train-sample: $(STAMP) ## train the sample Llamas into data/llama, which is removed first (git rm -r data/llama): hours on two cores, and it goes on where it stopped
	@mkdir -p figures/runs
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(BIN)/papermill nbs/train/llama.ipynb figures/runs/llama.ipynb -p train True

# The TPU's compiler lies apart, where train.topology_devices looks for it: beside JAX it would be tried at every start.
LIBTPU := .libtpu
LIBTPU_VERSION := 0.0.52
$(LIBTPU)/installed: $(STAMP)
	VIRTUAL_ENV='$(CURDIR)/$(VENV)' $(BIN)/uv pip install --quiet --target $(LIBTPU) libtpu==$(LIBTPU_VERSION)
	@touch $@

budgets: $(LIBTPU)/installed ## compile every size and stage for TPUs that are not here, into figures/budgets.*: three hours
	@mkdir -p figures/runs
	JAX_PLATFORMS=cpu $(BIN)/papermill nbs/train/budgets.ipynb figures/runs/budgets.ipynb -p measure True -r libtpu $(LIBTPU_VERSION) $(if $(ONLY),-p only '$(ONLY)')

budget: $(LIBTPU)/installed ## one of them, as a proof that the paper's step still compiles: a minute
	JAX_PLATFORMS=cpu $(BIN)/lvm-lite budget 300M pretrain --topology v3:16x8

interruptions: $(STAMP) ## work that is killed, stopped or shared by processes goes on to the same numbers
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "processes and not slow"

proofs: $(STAMP) ## what takes minutes to prove: the whole grid of attention; tokenising and training killed at twenty random moments
	$(BIN)/python -m pytest -n 2 -m slow --ignore tests/browser
	LVM_LITE_WHOLE=1 $(BIN)/python -m pytest tests/test_pretokenize.py -m "not slow" -s

browser: $(STAMP) ## the playground in JupyterLab and Chromium (apt-get install chromium): minutes
	VIRTUAL_ENV='$(CURDIR)/$(VENV)' $(BIN)/uv pip install --quiet -c constraints.txt -e '.[browser]'
	$(BIN)/python -m pytest tests/browser -m slow -s

# Peers live in an environment of their own, made by plain pip; the checkout is on the path there.
PEERS := .venv-parity
$(PEERS)/installed: tests/parity/requirements.txt
	test -x $(PEERS)/bin/pip || "$(PYTHON)" -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

parity: $(PEERS)/installed ## compare with diffusers and transformers
	PYTHONPATH='$(CURDIR)' XLA_FLAGS=--xla_force_host_platform_device_count=8 $(PEERS)/bin/python -m pytest tests/parity -s # whole networks: what the compiler optimises is worth its time

parity-7b: $(PEERS)/installed ## load the official 7B's shapes within 1.15 x their memory: 13 GB of disk, 15 of memory
	PYTHONPATH='$(CURDIR)' LVM_7B=1 $(PEERS)/bin/python -m pytest tests/parity/test_checkpoints.py -s -k 7b

BENCHES ?= tokenizer training decoding features
bench: $(PEERS)/installed ## measure beside diffusers, transformers, torch-fidelity and cd-fvd, on a quiet machine; one: make bench BENCHES=decoding. A GPU wants jax[cuda13] in .venv-parity first
	@mkdir -p figures/runs
	for b in $(BENCHES); do \
		PATH='$(CURDIR)/$(PEERS)/bin':$$PATH PYTHONPATH='$(CURDIR)' papermill --kernel python3 nbs/bench/$$b.ipynb figures/runs/bench_$$b.ipynb -p measure True || exit 1; done

reader: $(STAMP) ## measure the corpus reader, on a quiet machine: minutes, and room for a sparse file of 20 GB
	@mkdir -p figures/runs
	$(BIN)/papermill --kernel python3 nbs/bench/corpus.ipynb figures/runs/bench_corpus.ipynb -p measure True

results: reproduce ## measure the sample model at 500 samples, the oracle and the floor at 500 and 2000: hours, and it goes on where it stopped; with lvm-lite weights fetch inception i3d
	@mkdir -p figures/runs
	$(BIN)/papermill nbs/paper/results.ipynb figures/runs/results_measured.ipynb -p measure True

claims: $(STAMP) ## try the paper's claims with three seeds: two hours on two cores, and it goes on where it stopped; with lvm-lite weights fetch inception
	@mkdir -p figures/runs
	$(BIN)/papermill nbs/train/claims.ipynb figures/runs/claims.ipynb -p measure True

memorisation: $(STAMP) ## the nearest training picture of each generated one: minutes, with lvm-lite weights fetch inception
	@mkdir -p figures/runs
	$(BIN)/papermill nbs/train/memorisation.ipynb figures/runs/memorisation.ipynb -p measure True

guides: $(STAMP) ## run every guide again, in place: minutes
	for g in nbs/guides/*.ipynb; do echo $$g; $(BIN)/jupyter-nbconvert --to notebook --execute --inplace --log-level ERROR $$g || exit 1; done
	$(BIN)/nbdev-clean

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
		--no-emit-find-links --extra lab --extra dev --extra browser pyproject.toml -o constraints.txt

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16
