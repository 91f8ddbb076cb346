# Python 3.10 or later and make are all this needs: every target sets up .venv first if it has to.
# Options:  PYTHON=python3.12        which Python makes the environment
#           TORCH_INDEX=URL          where to take PyTorch from (its install page names a CPU-only index)
#           C=attention              which component `make test` tests: a module or a folder of ldm/ (default: all)
#           ARGS="-k attention -x"   passed on to pytest, or to what else the target runs (ARGS="-n0 --pdb": on one core)
#           RUNTIME=ort.tgz          the package onnxruntime-web, if it is at hand already (else npm fetches it)
#           PRESET=quick             which recipe `make train` follows (default: full)

PYTHON ?= python3
VENV   ?= .venv
PRESET ?= full
RUNTIME ?= build/onnxruntime-web-1.30.0.tgz
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt
PYTEST := $(BIN)/python -m pytest
# One process a core: each computes with one thread (tests/conftest.py) and takes half a gigabyte of memory.
ALL_CORES := -n auto --maxprocesses 8 --dist worksteal

# An empty file a stage of the set-up leaves behind: a second call sees it and has nothing to do.
MADE      := $(VENV)/.stamp-made
CORE      := $(VENV)/.stamp-core
TEST      := $(VENV)/.stamp-test
DEV       := $(VENV)/.stamp-dev
DOCS      := $(VENV)/.stamp-docs
NOTEBOOKS := $(VENV)/.stamp-notebooks
REFERENCE := $(VENV)/.stamp-reference
FUZZ      := $(VENV)/.stamp-fuzz
OPENVINO  := $(VENV)/.stamp-openvino
PLAYGROUND := $(VENV)/.stamp-playground

.DEFAULT_GOAL := help
.PHONY: help demo contact-sheet pictures evaluate test test-long check playground docs test-docs notebooks test-notebooks test-browser \
  test-reference parity bench mutants museum fuzz rehearsal golden fresh \
  train losses samplers curves lint format clean
# Two pips at once in one environment spoil it, so -j is accepted and ignored.
.NOTPARALLEL:

help: ## list what make can do
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile
	@sed -n -e '/^# Options:/,/^$$/s/^# / /p' Makefile

demo: $(CORE) ## paint six prompts with the tiny model into outputs/
	$(BIN)/ldm demo

contact-sheet: $(CORE) ## paint them from twelve seeds each, none skipped, into docs/images/contact-sheet.png
	$(BIN)/ldm demo --batch 12 --out outputs/contact-sheet --sheet docs/images/contact-sheet.png

pictures: $(CORE) ## paint the README's and the tour's other pictures, into docs/images/
	$(BIN)/python docs/images/make.py

evaluate: $(CORE) ## measure the tiny model: a table, and sheets in outputs/evaluation/
	$(BIN)/ldm evaluate $(ARGS)

test: $(TEST) ## run the unit tests (no network, no reference library); C=attention: those of one component
	@files=`$(BIN)/python -m tests.components $(C)` && set -x && $(PYTEST) $$files $(if $(C),,$(ALL_CORES)) $(ARGS)

test-long: $(TEST) ## run the soaks that are left out of `make test`: kills, fuzzing, training
	$(PYTEST) -m long $(ALL_CORES) $(ARGS)

check: $(DEV) ## lint, formatting, types, architecture, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -q tests/test_architecture.py
	$(BIN)/codespell

playground: build/playground/settings.js ## write a page that runs the tiny model in a browser, into build/playground/

# It is made anew when the model changes, or what writes it.
build/playground/settings.js: $(wildcard weights/tiny/*.* ldm/lab/drawing.js ldm/lab/playground/*.* ldm/lab/playground/pieces/*.*) | $(RUNTIME) $(PLAYGROUND)
	$(BIN)/ldm playground --model weights/tiny --runtime "$(RUNTIME)" --out build/playground

$(RUNTIME):
	@mkdir -p build
	cd build && npm pack --silent onnxruntime-web@1.30.0

# Where the runtime is not at hand and npm cannot fetch it, the site's pages show a recorded run instead of the model.
docs: $(DOCS) ## build the site into build/site/: open index.html there, no network is needed
	@if $(MAKE) -s $(RUNTIME); then $(MAKE) -s playground; \
	else echo "without onnxruntime-web the site shows a recorded run instead of the model" >&2; fi
	$(BIN)/python -m sphinx -E -W --keep-going -n -q -c docs -d build/doctrees . build/site
	@echo "open build/site/index.html"

test-docs: $(DOCS) $(TEST) ## build the site and look at every page of it
	$(PYTEST) -m "docs or browser" tests/docs tests/lab/playground $(ARGS)

notebooks: $(NOTEBOOKS) ## run the notebooks and keep their outputs (ARGS=03_noise.py: only that one)
	$(BIN)/python notebooks/build.py $(ARGS)

test-notebooks: $(NOTEBOOKS) $(TEST) ## run every notebook from top to bottom, and compare it with what is committed
	$(PYTEST) -m notebooks tests/notebooks $(ARGS)

test-browser: $(TEST) ## open in a browser what is made for one (skipped where there is no Chromium)
	$(PYTEST) -m browser $(ARGS)

test-reference: $(REFERENCE) ## compare live with diffusers and transformers
	$(PYTEST) -m reference $(ARGS)

parity: $(REFERENCE) ## measure how far we are from the reference libraries, into docs/parity.md
	@mkdir -p docs
	$(BIN)/python -m tests.reference.parity $(ARGS) > docs/.parity.md && mv docs/.parity.md docs/parity.md

bench: $(OPENVINO) ## measure speed and memory in turns with diffusers and OpenVINO, into docs/bench.md (long; goes on if interrupted; QUICK=--quick: a trial; ARGS="--only CASE ...": only those)
	@mkdir -p docs outputs
	$(BIN)/python -m tests.lab.bench $(QUICK) $(ARGS) --json $(if $(QUICK),outputs,docs)/bench.json > outputs/bench.md
	$(if $(QUICK),cat outputs/bench.md,$(BIN)/python -m tests.lab.bench.pages docs)

mutants: $(TEST) ## make each usual porting mistake in a copy and see the tests notice, into docs/mutants.md (long)
	$(BIN)/python -m tests.mutants $(ARGS) > docs/.mutants.md && mv docs/.mutants.md docs/mutants.md

museum: $(CORE) ## show what each of those mistakes does to an image, into docs/museum.md (half an hour; goes on if interrupted)
	$(BIN)/python docs/museum.py $(ARGS)

fuzz: $(FUZZ) ## read 100,000 mutated files, then ten minutes of coverage-guided fuzzing, into docs/fuzz.md (goes on if interrupted)
	@mkdir -p outputs
	$(BIN)/python -m tests.fuzz --journal outputs/fuzz.json --guided 600 $(ARGS) > outputs/fuzz.md && mv outputs/fuzz.md docs/fuzz.md
	@rm outputs/fuzz.json

rehearsal: $(TEST) ## open and paint with checkpoints of the real sizes, into docs/rehearsal.md (minutes, 15 GB of disk)
	$(BIN)/python -m tests.rehearsal $(ARGS) > docs/.rehearsal.md && mv docs/.rehearsal.md docs/rehearsal.md

fresh: ## run each target that the README names in a fresh clone with a fresh environment (hours; ARGS="demo docs": only those)
	$(PYTHON) tests/fresh/run.py $(ARGS)

golden: $(REFERENCE) ## make the golden outputs of tests/golden/ anew
	$(BIN)/python tests/golden/make.py
	$(BIN)/python -m tests.golden.make_mistakes

train: $(CORE) ## train the tiny model from nothing: tokenizer, clip, vae, diffusion, match
	$(BIN)/ldm train all --preset $(PRESET) $(ARGS)

losses: $(CORE) ## train the quick VAE without one loss after the other, into docs/losses.md (an hour; goes on if interrupted)
	@mkdir -p outputs
	$(BIN)/python docs/losses.py > outputs/losses.md && mv outputs/losses.md docs/losses.md

samplers: $(CORE) ## measure what steps, guidance and shortcuts do to images, into docs/samplers.md (an hour; goes on if interrupted)
	@mkdir -p outputs
	$(BIN)/python docs/samplers.py > outputs/samplers.md && mv outputs/samplers.md docs/samplers.md

curves: ## keep the loss curves of the model in weights/mine in docs/curves/
	@mkdir -p docs/curves
	cp weights/mine/runs/curves.png docs/curves/
	for stage in clip vae diffusion match; do cp weights/mine/runs/$$stage/log.csv docs/curves/$$stage.csv; done

lint: $(DEV) ## name what ruff finds
	$(BIN)/ruff check .

format: $(DEV) ## let ruff lay out the code
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and all caches (outputs, runs and weights stay)
	rm -rf "$(VENV)" build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find ldm tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment ---------------------------------------------------------------------------------

# Missing tools are named here with their remedy, before half an environment exists.
$(MADE):
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "$(PYTHON): no such program. Install Python 3.10 or later, or name one: make PYTHON=/path/to/python3" >&2; \
	  exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "$(PYTHON) is `$(PYTHON) --version 2>&1`; this needs 3.10 or later." >&2; \
	  echo "Name another one: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make a virtual environment: its venv or ensurepip module is missing." >&2; \
	  echo "On Debian or Ubuntu: sudo apt install python3-venv. Elsewhere: make PYTHON=/path/to/another/python3" >&2; \
	  exit 1; }
	"$(PYTHON)" -m venv "$(VENV)"
	@touch $@

# PyTorch comes first and alone when an index is named; all that it needs comes from the usual one.
$(CORE): $(MADE) pyproject.toml constraints.txt
	$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url "$(TORCH_INDEX)" torch)
	$(PIP) -e '.[exercises]'
	@touch $@

$(TEST): $(CORE)
	$(PIP) -q -e '.[test]'
	@touch $@

$(DEV): $(TEST)
	$(PIP) -q -e '.[dev]'
	@touch $@

$(DOCS): $(CORE)
	$(PIP) -q -e '.[docs]'
	@touch $@

$(NOTEBOOKS): $(CORE)
	$(PIP) -q -e '.[notebooks]'
	@touch $@

$(REFERENCE): $(TEST)
	$(PIP) -q -e '.[test,reference]'
	@touch $@

$(PLAYGROUND): $(CORE)
	$(PIP) -q -e '.[playground]'
	@touch $@

# Where OpenVINO has no wheel, its column of the table says that it is not installed.
$(OPENVINO): $(REFERENCE)
	$(PIP) -q -e '.[openvino]' || echo "without OpenVINO the benchmark compares with diffusers alone" >&2
	@touch $@

# Where there is no atheris (it needs Linux and a Python that it has a wheel for), the rest runs without it.
$(FUZZ): $(TEST)
	$(PIP) -q -e '.[fuzz]' || echo "atheris cannot be installed here: no coverage-guided fuzzing" >&2
	@touch $@
