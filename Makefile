# The targets a person would guess. Everything is installed into .venv inside this clone.

DEFAULT := edge_seg/models/portrait
VENV := .venv
PY := $(VENV)/bin/python
# The first of these that really starts (a version manager's shim may be there and not work).
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3.13 python3; do \
	$$p -c 'import ensurepip, venv' 2>/dev/null && echo $$p && break; done)
# A file of tests runs in one process: what it sets up once is set up once.
PYTEST = $(PY) -m pytest -q -n auto --maxprocesses 4 --dist loadfile
export EDGE_SEG_CACHE ?= $(CURDIR)/$(VENV)/cache

.PHONY: demo test test-slow test-aarch64 check api bench soak network install clean

ifeq ($(wildcard $(DEFAULT)/manifest.json),)
demo:
	@echo "no default network ships in this version: nothing was run."
	@echo "Convert one of yours: edge-seg convert MODEL.onnx --int8 (see README.md)."
else
demo: $(VENV)/.demo ## convert, run and measure the network that ships; look into demo/
	$(PY) examples/demo.py demo
endif

test: $(VENV)/.all ## the fast tests
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.all ## wheels in fresh environments, other Pythons, whole conversions
	$(PYTEST) -m slow --durations=10

test-aarch64: $(VENV)/.all ## the wheel and the default network on an emulated 64-bit ARM
	.ci/aarch64 $(PY) || test $$? = 75

check: $(VENV)/.all ## format, lint, types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	.ci/types $(abspath $(PY))

api: $(VENV)/.all ## docs/api.md anew, after a public docstring or signature has changed
	$(PY) docs/make_api.py

bench: $(VENV)/.all ## speed and resizing, the network that ships and the official ones if here
	$(PY) benchmarks/run.py

soak: $(VENV)/.all ## 200,000 frames: memory, descriptors and latency stay flat
	$(PY) benchmarks/soak.py --frames 200000

# DATA: train.txt and val.txt, or images/ and masks/; see docs/fine-tune.md. MODELS: the teachers' files.
DATA ?= ../shared/data
MODELS ?= ../shared/models
OUT ?= out/network
PROCESSES ?= 2 # a divisor of the batch, 64
# STEPS: so many of each run, instead of its recipe's: `make network STEPS=10` tries the whole way.
FOLDER = --data $(DATA) $(if $(SCENES),--scenes $(SCENES))
RUN = $(OUT)/runs/portrait
AGAIN = $(OUT)/runs/again
DECOYS = $(OUT)/runs/decoys
EXPORT = $(PY) -m edge_seg export
TRAIN = OMP_NUM_THREADS=1 $(PY) -m torch.distributed.run --nproc-per-node $(PROCESSES) -m edge_seg train \
	$(FOLDER) --teacher $(OUT)/masks $(if $(STEPS),--steps $(STEPS))
CONVERT = $(PY) -m edge_seg convert --int8 --to all --calibration $(RUN)/train.txt --labels $(RUN)/val.txt
network: $(VENV)/.all ## from pictures to the bundles OUT/portrait and OUT/portrait-lite (hours)
	$(PY) -m edge_seg teach $(FOLDER) --teachers training/teachers.json --models $(MODELS) -o $(OUT)/masks
	$(TRAIN) --from training/tuned.safetensors --recipe training/portrait.json -o $(RUN)
	$(TRAIN) --from training/tuned.safetensors --recipe training/again.json -o $(AGAIN)
	$(TRAIN) --from $(RUN) $(AGAIN) training/mixed.safetensors --recipe training/decoys.json -o $(DECOYS)
	$(EXPORT) $(RUN) $(AGAIN) $(DECOYS) -o $(OUT)/portrait.safetensors
	$(CONVERT) $(OUT)/portrait.safetensors -o $(OUT)/portrait
	$(EXPORT) $(OUT)/portrait.safetensors --side 160 -o $(OUT)/portrait-lite.onnx
	$(CONVERT) $(OUT)/portrait-lite.onnx --spec $(OUT)/portrait-lite.toml -o $(OUT)/portrait-lite

install: $(VENV)/.all ## everything the targets above need

$(PY):
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --upgrade pip

$(VENV)/.demo: setup.cfg | $(PY)
	@echo "installing what the demo needs into $(VENV)"
	$(PY) -m pip install -q -e ".[convert,onnxruntime,demo]"
	touch $@

$(VENV)/.all: setup.cfg | $(PY)
	@echo "installing everything into $(VENV): about a minute and 2 GB"
	$(PY) -m pip install -q -e ".[all,dev,demo]"
	touch $@ $(VENV)/.demo

clean: ## what the targets above made, .venv included
	rm -rf $(VENV) build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
